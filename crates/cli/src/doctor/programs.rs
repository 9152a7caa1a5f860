//! Programs that functions, deployments and sandboxes need.

use super::{Check, State};
use crate::verb::sdk;
use crate::verb::serve::libraries;
use daemon::node::Node;
use sandbox::config::RuntimeConfig;
use sandbox::container::find_interpreter;
use sandbox::spec::Kind;
use std::process::{Command, Stdio};

const PYTHON: &str = "Python functions";
const NODE: &str = "Node.js functions";

pub fn checks() -> Vec<Check> {
    let python = interpreter("python", PYTHON, Kind::Python, "python3", "apt install python3");
    let node = interpreter("node", NODE, Kind::Node, "node", "apt install nodejs");
    let native = native();
    // One runtime is enough to run a node; none is not.
    let none = [&python, &node, &native].iter().all(|check| check.state != State::Ok);
    let [python, node, native] = [python, node, native].map(|check| if none { check.missing() } else { check });
    vec![
        native,
        python,
        program(
            "pip",
            "requirements.txt installed when deploying",
            "python3",
            &["-m", "pip", "--version"],
            "apt install python3-pip",
        ),
        node,
        program(
            "npm",
            "package.json's dependencies installed when deploying",
            "npm",
            &["--version"],
            "apt install npm",
        ),
        sdk(),
    ]
}

/// AWS's SDKs, in the data folder of a node that is started with the defaults.
fn sdk() -> Check {
    const BRINGS: &str = "functions that import boto3 or @aws-sdk without bringing it";
    let sdk = RuntimeConfig::default().sdk(&Node::default().data_dir);
    let found: Vec<String> = [sdk::python_version(&sdk), sdk::node_version(&sdk)].into_iter().flatten().collect();
    match found.len() {
        2 => Check::ok("sdk", BRINGS, found.join(", ")),
        1 => Check::lacking("sdk", BRINGS, format!("{} only", found[0]), "lichen sdk install"),
        _ => Check::lacking("sdk", BRINGS, "none in the default data folder", "lichen sdk install"),
    }
}

/// The runtime of programs, which is installed with this one.
fn native() -> Check {
    const BRINGS: &str = "functions that bring their own runtime, and extensions";
    const FILE: &str = "lichen_provided";
    match libraries() {
        Ok(folder) if folder.join(FILE).is_file() => {
            Check::ok("provided", BRINGS, format!("{FILE}, with this program"))
        }
        _ => {
            Check::lacking("provided", BRINGS, format!("no {FILE} with this program"), "build or install all of Lichen")
        }
    }
}

/// The interpreters of a language, first the one for functions that want no other version.
fn interpreter(name: &'static str, brings: &'static str, kind: Kind, file: &str, remedy: &str) -> Check {
    let found = find_interpreter(kind, &[]);
    let Some((first, others)) = found.split_first() else {
        return program(name, brings, file, &["--version"], remedy);
    };
    let more: Vec<&str> = others.iter().map(|other| other.version.as_str()).collect();
    let more = if more.is_empty() { String::new() } else { format!("; also {}", more.join(", ")) };
    Check::ok(name, brings, format!("{}{more}", first.version))
}

/// A program, and the first line that it says of itself.
fn program(name: &'static str, brings: &'static str, file: &str, arguments: &[&str], remedy: &str) -> Check {
    let output = Command::new(file).args(arguments).stdin(Stdio::null()).output();
    match output {
        Ok(output) if output.status.success() => {
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            Check::ok(name, brings, said.lines().next().unwrap_or("there").trim())
        }
        Ok(output) => Check::lacking(name, brings, format!("{file} does not work: {}", output.status), remedy),
        Err(_) => Check::lacking(name, brings, format!("no {file} on the PATH"), remedy),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_that_are_there_and_that_are_not() {
        assert_eq!(program("sh", "x", "sh", &["-c", "echo 1.2"], "y").found, "1.2");
        assert_eq!(program("sh", "x", "sh", &["-c", "exit 3"], "y").state, State::Lacking);
        assert_eq!(program("no", "x", "no-such-program", &[], "y").remedy.unwrap(), "y");
    }
}

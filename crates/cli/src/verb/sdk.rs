//! `lichen sdk`: AWS's SDKs for functions that bring none, as they find them on AWS.
//!
//! They lie in the node's data folder, which sandboxes see read-only: a node that runs need not be started again.

use super::settings::Settings;
use crate::installer::follow;
use crate::print;
use crate::progress::Step;
use crate::verdict::{Exit, Verdict, wrong};
use anyhow::Context;
use clap::{Args, Subcommand, ValueEnum};
use sandbox::config::Sdk;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// What Node.js functions use most of the AWS SDK's hundreds of packages.
const PACKAGES: [&str; 17] = [
    "@aws-sdk/client-cloudwatch",
    "@aws-sdk/client-cloudwatch-logs",
    "@aws-sdk/client-dynamodb",
    "@aws-sdk/client-eventbridge",
    "@aws-sdk/client-kinesis",
    "@aws-sdk/client-lambda",
    "@aws-sdk/client-s3",
    "@aws-sdk/client-secrets-manager",
    "@aws-sdk/client-sfn",
    "@aws-sdk/client-sns",
    "@aws-sdk/client-sqs",
    "@aws-sdk/client-ssm",
    "@aws-sdk/client-sts",
    "@aws-sdk/lib-dynamodb",
    "@aws-sdk/lib-storage",
    "@aws-sdk/s3-request-presigner",
    "@aws-sdk/util-dynamodb",
];

#[derive(Debug, Args)]
pub struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Install AWS's SDKs, or newer versions of them, for all functions of a node
    Install(Install),
    /// Say which are there
    Ls(Place),
}

#[derive(Debug, Args)]
struct Install {
    /// For functions of one language only
    language: Option<Language>,
    /// Another package, by its name in the language's registry
    #[arg(long = "with", value_name = "PACKAGE")]
    more: Vec<String>,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Args)]
struct Place {
    #[command(flatten)]
    settings: Settings,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Language {
    Python,
    Node,
}

pub fn act(arguments: Arguments) -> Verdict {
    match arguments.what {
        What::Install(install) => install.act(),
        What::Ls(place) => {
            let sdk = place.sdk()?;
            for (language, found) in [("python", python_version(&sdk)), ("node", node_version(&sdk))] {
                print::line(&format!("{language}\t{}", found.as_deref().unwrap_or("none")))?;
            }
            Ok(Exit::Done)
        }
    }
}

impl Place {
    fn sdk(&self) -> anyhow::Result<Sdk> {
        let config = self.settings.config(None)?;
        Ok(config.runtime.sdk(&config.node.data_dir))
    }
}

impl Install {
    fn act(self) -> Verdict {
        if self.language.is_none() && !self.more.is_empty() {
            return Err(wrong("`--with` needs a language: `lichen sdk install node --with PACKAGE`"));
        }
        let sdk = self.place.sdk()?;
        if self.language != Some(Language::Node) {
            python(&sdk, &self.more)?;
        }
        if self.language != Some(Language::Python) {
            node(&sdk, &self.more)?;
        }
        Ok(Exit::Done)
    }
}

fn python(sdk: &Sdk, more: &[String]) -> anyhow::Result<()> {
    let folder = sdk.python();
    make(&folder)?;
    let step = Step::begin("installing boto3", false);
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--progress-bar=off", "--upgrade"]);
    pip.args(["--root-user-action=ignore", "--target"]).arg(&folder).arg("--").arg("boto3").args(more);
    follow(&mut pip, &step).map_err(|said| wrong(format!("boto3 could not be installed\n{said}")))?;
    // Without it each start that imports them would compile them anew: a sandbox can keep nothing there.
    let mut compile = Command::new("python3");
    compile.args(["-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash"]).arg(&folder);
    compile.stdout(Stdio::null()).stderr(Stdio::null()).status().context("cannot run python3 -m compileall")?;
    show(&folder)
}

fn node(sdk: &Sdk, more: &[String]) -> anyhow::Result<()> {
    let folder = sdk.node();
    make(&sdk.node_modules())?;
    let step = Step::begin("installing @aws-sdk", false);
    let mut npm = Command::new("npm");
    npm.args(["install", "--omit=dev", "--no-audit", "--no-fund", "--no-update-notifier", "--prefix"]).arg(&folder);
    npm.arg("--").args(PACKAGES).args(more);
    follow(&mut npm, &step).map_err(|said| wrong(format!("@aws-sdk could not be installed\n{said}")))?;
    show(&folder)
}

fn make(folder: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))
}

/// Lets functions read it, whatever this user's umask is: in their sandboxes they are somebody else.
fn show(path: &Path) -> anyhow::Result<()> {
    let metadata = fs::symlink_metadata(path)?;
    if metadata.is_symlink() {
        return Ok(());
    }
    let mode = metadata.permissions().mode();
    let wanted = mode | 0o444 | if metadata.is_dir() || mode & 0o100 != 0 { 0o111 } else { 0 };
    if wanted != mode {
        fs::set_permissions(path, fs::Permissions::from_mode(wanted))?;
    }
    if metadata.is_dir() {
        fs::read_dir(path)?.try_for_each(|entry| show(&entry?.path()))?;
    }
    Ok(())
}

/// What of Python's SDK is there: `boto3 1.40.1`.
pub fn python_version(sdk: &Sdk) -> Option<String> {
    let names =
        fs::read_dir(sdk.python()).ok()?.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names = names.filter_map(|name| Some(name.strip_prefix("boto3-")?.strip_suffix(".dist-info")?.to_owned()));
    names.next().map(|version| format!("boto3 {version}"))
}

/// What of Node.js's SDK is there: `@aws-sdk/client-s3 3.900.0`.
pub fn node_version(sdk: &Sdk) -> Option<String> {
    const NAME: &str = "@aws-sdk/client-s3";
    let text = fs::read(sdk.node_modules().join(NAME).join("package.json")).ok()?;
    let package: serde_json::Value = serde_json::from_slice(&text).ok()?;
    Some(format!("{NAME} {}", package["version"].as_str()?))
}

//! What texts mean, and what is said about those that mean nothing. `SEED=…` is for other texts than those of every run.

use std::sync::Arc;

use super::diagnostic::Severity;
use super::{Checked, Known, Lookup, Offline, Signature, check};
use crate::graph::{Content, Join, Mode, OnError, Target};

const WORDS: &str = r#"
// Words of a text, counted in parallel.
function split(text) => (chunks);   # as many as it likes
function count(chunk, stop) => (pairs);
function sum(pairs) => (totals);
set Stop = "the", "and": "a\u{20}\"b\"" key 3, file "stop.txt";
flow words(Text) => (Totals) {
    split(text = all Text) => (Chunks = chunks);
    count(chunk = each Chunks, stop = all Stop) => (Pairs = pairs);
    sum(pairs = keyed Pairs) => (Totals = totals); /* one per word */
}
"#;

fn messages(checked: &Checked) -> Vec<(Severity, usize, usize, &str)> {
    checked.diagnostics.iter().map(|found| (found.severity, found.line, found.column, found.message.as_str())).collect()
}

#[test]
fn a_text_becomes_a_graph() {
    let checked = check(WORDS, None, &Offline);
    assert_eq!(checked.diagnostics, []);
    let program = checked.program.unwrap();
    let graph = program.main();
    let labels: Vec<&str> = graph.apps.iter().map(|app| app.label.as_str()).collect();
    assert_eq!(labels, ["split", "count", "sum"]);
    let count = &graph.apps[1];
    assert_eq!(count.ports.iter().map(|port| port.mode).collect::<Vec<_>>(), [Mode::Each, Mode::All]);
    assert_eq!((count.axes.len(), count.line, count.on_error), (2, 9, OnError::Fail));
    let (_, stop) = &graph.statics[0];
    assert_eq!(stop[0].content, Content::Ready("the".into()));
    assert_eq!((stop[1].name.as_deref(), stop[1].key), (Some("and"), 3));
    assert_eq!(stop[1].content, Content::Ready("a \"b\"".into()));
    assert_eq!(program.files(), ["stop.txt"]);
    assert_eq!(program.functions(), ["count", "split", "sum"]);
}

/// Examples as Dandelion's parser takes them: its word for flows, no space behind the mode, sets that nobody takes.
#[test]
fn what_dandelion_takes_is_taken() {
    let text = "function mkreq(topic) => (reqs); function HTTP(requests) => (headers, bodies);
        function merge(new, old) => (puts);
        composition news(Topic) => (W) { mkreq(topic = allTopic) => (Q = reqs);
          HTTP(requests = eachQ) => (B = bodies);
          HTTP(requests = each Q) => (Old = headers);
          merge(new = keyed B, old = optional keyed Old) => (W = puts) by new left old; }";
    let checked = check(text, None, &Offline);
    assert_eq!(checked.diagnostics, []);
    let graph = checked.program.unwrap().main().clone();
    let merge = graph.apps.last().unwrap();
    assert_eq!(merge.axes.len(), 1);
    assert_eq!(merge.axes[0].ports, [(0, Join::Cross), (1, Join::Left)]);
    assert!(merge.ports[1].optional && !merge.ports[0].optional);
    let empty = check("composition same(A) => (A) {}", None, &Offline);
    assert_eq!(empty.diagnostics, []);
}

#[test]
fn a_mark_of_the_encoding_is_no_part_of_a_text() {
    let checked = check("\u{feff}flow f(A) => (B) {\r\n g(x = all A) => (B = y);\r\n}", None, &Offline);
    assert_eq!(checked.diagnostics, []);
}

#[test]
fn of_flows_that_the_last_one_does_not_apply_it_is_said() {
    let text = "flow a(X) => (X) {} flow b(X) => (X) {} flow c(X) => (Y) { a(X = all X) => (Y = X); }";
    let checked = check(text, None, &Offline);
    let expected = [(Severity::Warning, 1, 26, "flow `b` is no part of `c`, the flow that this text is")];
    assert_eq!(messages(&checked), expected);
    assert_eq!(checked.program.unwrap().main().name, "c");
}

#[test]
fn another_name_of_an_input_means_it() {
    let flow = |inputs: &str| format!("flow f(A, B) => (C) {{ fetch({inputs}) => (C = bodies); }}");
    let said =
        |inputs: &str| messages(&check(&flow(inputs), None, &Registry)).iter().map(|said| said.3.to_owned()).collect();
    let none: Vec<String> = vec![];
    assert_eq!([said("requests = all A, o = all B"), said("request = all A, o = all B")], [none.clone(), none]);
    let missing: Vec<String> = said("o = all A, o = all B");
    assert!(missing.iter().any(|said| said == "`fetch` is not given its set `requests`"), "{missing:?}");
    let declared = format!("function fetch(request, o) => (bodies); {}", flow("request = all A, o = all B"));
    assert_eq!(check(&declared, None, &Registry).diagnostics, []);
}

#[test]
fn flows_within_flows_are_put_in_where_they_take_whole_sets() {
    let text = "flow inner(X, Y) => (Z) { f(a = each X) => (M = r); g(m = all M, y = all Y) => (Z = r); }
        flow outer(A, B) => (C, D) {
            inner(X = all A, Y = optional all B) => (C = Z);
            inner(X = each A, Y = all B) => (D = Z);
        }";
    let program = check(text, None, &Offline).program.unwrap();
    let apps = &program.main().apps;
    let labels: Vec<&str> = apps.iter().map(|app| app.label.as_str()).collect();
    assert_eq!(labels, ["inner.f", "inner.g", "inner"]);
    assert_eq!(apps[2].target, Target::Flow(0));
    // Without an item in A nothing of it runs, and `g` does not take A.
    assert_eq!((apps[0].gates.len(), apps[1].gates.len()), (0, 1));
    assert_eq!(program.main().sets[program.main().outputs[0].1].name, "C");
    assert_eq!(check(text, Some("inner"), &Offline).program.unwrap().main().name, "inner");
}

struct Registry;

impl Known for Registry {
    fn lookup(&self, function: &str) -> Lookup {
        match function {
            "count" => Lookup::Exact(Signature::new(&["log", "pattern"], &["n"])),
            "handler" | "count:live" => Lookup::Open,
            "fetch" => Lookup::Exact(Signature {
                aliases: vec![("request".into(), "requests".into())],
                ..Signature::new(&["requests", "o"], &["bodies"])
            }),
            _ => Lookup::Missing,
        }
    }

    fn names(&self) -> Vec<String> {
        vec!["count".into(), "handler".into()]
    }
}

/// What is wrong with the body of a flow, by the first error's line, message and hint.
fn faults(inside: &str) -> Vec<(usize, String, String)> {
    let checked = check(&format!("flow f(A, B) => (C) {{\n{inside}\n}}"), None, &Registry);
    let found = checked.diagnostics.into_iter();
    found.map(|found| (found.line, found.message, found.hint.unwrap_or_default())).collect()
}

#[test]
fn every_fault_is_said_with_what_to_do() {
    let both = "handler(a = all A, b = all B) => (C = r);";
    let cases = [
        ("cuont(log = all A, pattern = all B) => (C = n);", "no function or flow `cuont`", "did you mean `count`?"),
        ("count(log = all A, patern = all B) => (C = n);", "takes no set `patern`", "did you mean `pattern`?"),
        ("count(log = all A) => (C = n);", "is not given its set `pattern`", "add `pattern = all SET`"),
        ("count(log = all A, pattern = all B) => (C = m);", "gives no set `m`", "there are: `n`"),
        ("count(log = all A, pattern = all B) => (n = C);", "gives no set `C`", "stands first: `C = n`"),
        ("count(log = all A, log = all A, pattern = all B) => (C = n);", "`log` is given twice", "leave one"),
        ("handler(a = all A, b = all X) => (C = r);", "nobody makes the set `X`", "there are: `A`, `B`, `C`"),
        (
            "handler(a = all A, b = all B) => (C = r, A = r);",
            "set `A` is made twice; first as an input",
            "another name",
        ),
        ("handler(a = all A, b = all B) => (D = r);", "the result `D` is not used", "leave it out"),
        (
            "handler(a = all C, b = all A, c = all B) => (C = r);",
            "wait for each other: `handler` → `handler`",
            "before it",
        ),
        ("handler(a = all A) => (C = r);", "the flow's input `B` is not used", "leave it out"),
        (&format!("{both} handler(a = all A) => (D = r);"), "the result `D` is not used", "leave it out"),
        ("handler(a = keyed A, b = keyed B) => (C = r);", "every key of `a` meets every key of `b`", "by a inner b"),
        ("handler(a = keyed A, b = keyed B) => (C = r) by a left b;", "where `B` is empty", "b = optional keyed B"),
        ("handler(a = all A, b = keyed B) => (C = r) by a inner b;", "no key to join by", "a = keyed A"),
        ("handler(a = keyed A, b = keyed B) => (C = r) by a inner x;", "`x` is no input", "there are: `a`, `b`"),
        ("handler(a = keyed A, b = all B) => (C = r) by a;", "one input is no join", "by a inner b"),
        (
            "set S = \"x\", \"y\"; handler(a = all A, b = all B, s = keyed S) => (C = r);",
            "no item of `S` has a key",
            "key 1",
        ),
        ("handler(a = A, b = all B) => (C = r);", "how the set is divided", "`each A` for one item"),
        ("handler(a = al A, b = all B) => (C = r);", "how the set is divided", "did you mean `all`?"),
        ("handler(a = keyed A, b = keyed B) => (C = r) by a iner b;", "where a join", "did you mean `inner`?"),
        ("handler(a = all A, b = all B) -> (C = r);", "no meaning here", ""),
        ("handler(a = all A b = all B) => (C = r);", "there is `b` where `,` or `)` is expected", ""),
        ("f(A = all A, B = all B) => (C = C);", "`f` comes to apply itself", "end somewhere"),
        ("handler(a = all A, b = all B) => (C = r) on errors skip;", "where `error`", ""),
        ("handler(a = all A, b = all B) => (C = r) by a inner b", "at the end of the application", ""),
    ];
    for (inside, message, hint) in cases {
        let faults = faults(inside);
        let said = faults
            .iter()
            .any(|(line, said, what)| (1..4).contains(line) && said.contains(message) && what.contains(hint));
        assert!(said, "{inside}\n{faults:#?}");
    }
    assert_eq!(faults("count(log = all A, pattern = all B) => (C = n) on error skip;"), []);
    assert_eq!(
        faults("count:live (log = all A, pattern = all B) => (C = n) on error => E; handler(e = all E) => ();"),
        []
    );
}

#[test]
fn several_faults_are_said_at_once_where_they_stand() {
    let text = "flow f(A) => (B) {\n  x(a = all A) => (B = );\n  y(a = each Ä) = (C = c);\n  z(;\n}\nfunctoin g() => ();\nflow h(A) => (A) {}";
    let checked = check(text, None, &Offline);
    let said = messages(&checked);
    let places: Vec<(usize, usize)> = said.iter().map(|(_, line, column, _)| (*line, *column)).collect();
    assert_eq!(places, [(2, 24), (3, 17), (4, 5), (6, 1)], "{said:#?}");
    assert_eq!(checked.diagnostics[3].hint.as_deref(), Some("did you mean `function`?"));
    let shown = checked.diagnostics[1].render("f.flow");
    assert_eq!(
        shown,
        "error: there is `=` where `=>` before what comes out is expected\n --> f.flow:3:17\n  |\n3 |   y(a = each Ä) = (C = c);\n  |                 ^\n"
    );
}

#[test]
fn circles_are_shown() {
    let text = "flow f(A) => (D) { a(x = all A, y = all D) => (B = r); b(x = all B) => (D = r); }";
    let checked = check(text, None, &Offline);
    assert_eq!(checked.diagnostics[0].message, "these wait for each other: `a` → `b` → `a`");
    let text = "flow f(A) => (B) { g(A = all A) => (B = B); } flow g(A) => (B) { f(A = all A) => (B = B); }";
    assert!(check(text, None, &Offline).diagnostics[0].message.contains("comes to apply itself"));
}

/// Flows of other texts: `words`, `copies`, and one that is none.
struct Deployed;

impl Known for Deployed {
    fn lookup(&self, name: &str) -> Lookup {
        match name {
            "words" => Lookup::Flow(Arc::new(check(WORDS, None, &Offline).program.unwrap())),
            "twice" => {
                let text = "flow twice(A) => (B) { words(Text = each A) => (M = Totals); words(Text = all M) => (B = Totals); }";
                Lookup::Flow(Arc::new(check(text, None, &Deployed).program.unwrap()))
            }
            "chain" => Lookup::Unfit("it is a chain".to_owned()),
            _ => Lookup::Open,
        }
    }
}

#[test]
fn flows_of_other_texts_are_applied_like_ones_own() {
    let text = "flow f(A) => (B) { twice(A = each A) => (M = B); words(Text = all M) => (N = Totals); g(x = all N) => (B = r); }";
    let program = check(text, None, &Deployed).program.unwrap();
    assert_eq!(program.functions(), ["count", "g", "split", "sum"]);
    let main = program.main();
    assert_eq!(main.name, "f");
    // To whole sets: as if its applications stood there.
    let labels: Vec<&str> = main.apps.iter().map(|app| app.label.as_str()).collect();
    assert_eq!(labels, ["twice", "words.split", "words.count", "words.sum", "g"]);
    let Target::Flow(twice) = main.apps[0].target else { panic!("a run of its own for every piece") };
    assert_eq!(program.graphs[twice].name, "twice");
    let Target::Flow(words) = program.graphs[twice].apps[0].target else { panic!("{:?}", program.graphs[twice]) };
    assert_eq!(program.graphs[words].name, "words");
    assert!(words < twice && twice < program.graphs.len() - 1, "inner ones come first");
    // A declaration does not hide a flow, and has to say what it says.
    let declared = "function words(Text) => (Totals); flow f(A) => (B) { words(Text = all A) => (B = Totals); }";
    assert_eq!(check(declared, None, &Deployed).program.unwrap().main().apps.len(), 3);
    for (text, said) in [
        ("flow f(A) => (B) { words(Text = all A) => (B = totals); }", "`words` gives no set `totals`"),
        (
            "function words(Text) => (Sums); flow f(A) => (B) { words(Text = all A) => (B = Sums); }",
            "gives no set `Sums`",
        ),
        ("flow f(A) => (B) { words(Text = all A) => (B = Totals) on error skip; }", "goes with functions"),
        ("flow f(A) => (B) { chain(x = all A) => (B = r); }", "cannot be applied here: it is a chain"),
    ] {
        let checked = check(text, None, &Deployed);
        assert!(checked.errors().any(|found| found.message.contains(said)), "{text}: {}", checked.render("x"));
    }
}

#[test]
fn flows_of_other_texts_do_not_multiply_for_ever() {
    struct Many;
    impl Known for Many {
        fn lookup(&self, name: &str) -> Lookup {
            match name.strip_prefix('m') {
                Some(_) => Lookup::Flow(Arc::new(check(WORDS, None, &Offline).program.unwrap())),
                None => Lookup::Open,
            }
        }
    }
    let applied: String = (0..300).map(|at| format!("m{at}(Text = each A) => (B{at} = Totals);")).collect();
    let checked = check(&format!("flow f(A) => (A) {{ {applied} }}"), None, &Many);
    assert!(
        checked.errors().any(|found| found.message.contains("more than 1024 applications")),
        "{}",
        checked.render("x")
    );
}

#[test]
fn flows_that_multiply_are_refused() {
    let mut text = "flow f0(A) => (B) { h(a = all A) => (B = r); }\n".to_owned();
    for depth in 1..15 {
        let inner = depth - 1;
        text +=
            &format!("flow f{depth}(A) => (B) {{ f{inner}(A = all A) => (M = B); f{inner}(A = all M) => (B = B); }}\n");
    }
    let checked = check(&text, None, &Offline);
    assert!(checked.program.is_none() && checked.diagnostics[0].message.contains("more than 1024 applications"));
}

/// Xorshift: enough to be different, the same for the same seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }
}

#[test]
fn no_text_breaks_the_checker() {
    let seed = std::env::var("SEED").map_or(1, |seed| seed.parse().expect("SEED is a number but 0"));
    let mut chance = Chance(seed);
    let pieces = [
        "flow ",
        "f",
        "(",
        ")",
        "{",
        "}",
        ";",
        ",",
        "=",
        "=>",
        "all ",
        "each ",
        "keyed ",
        "optional ",
        "A",
        "B",
        " by ",
        " inner ",
        " left ",
        " on error ",
        "skip",
        "set ",
        "\"x\"",
        "key ",
        "7",
        "function ",
        "é",
        "\"",
        "/*",
        "*/",
        "#",
        "\n",
        "\\",
        "99999999999999999999",
        ":",
        "file ",
        "composition ",
    ];
    for _ in 0..3000 {
        let mut text = if chance.below(2) == 0 { WORDS.to_owned() } else { String::new() };
        for _ in 0..chance.below(40) {
            let piece = pieces[chance.below(pieces.len())];
            let at = (0..=chance.below(text.len() + 1)).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
            let mut end = (at + chance.below(6)).min(text.len());
            while !text.is_char_boundary(end) {
                end += 1;
            }
            text.replace_range(at..if chance.below(2) == 0 { at } else { end }, piece);
        }
        let checked = check(&text, None, &Registry);
        assert_eq!(checked.program.is_none(), checked.errors().next().is_some(), "{text}");
        assert!(checked.render("x").len() < 64 * 1024);
    }
}

/// Texts of 250 KiB that are as much of one thing as can be: each is read within a moment, whatever is said of it.
#[test]
fn no_text_takes_long_to_read() {
    let many = |count: usize, one: &dyn Fn(usize) -> String| (0..count).map(one).collect::<String>();
    let list =
        |count: usize, one: &str| (0..count).map(|i| one.replace('#', &i.to_string())).collect::<Vec<_>>().join(",");
    let f = "function f(a) => (o);";
    let texts = [
        (
            format!(
                "function f({}) => (o); flow c(I) => (O) {{ f({}) => (O = o); }}",
                list(12_000, "a#"),
                list(9000, "a#=all I")
            ),
            "sets in this list",
        ),
        (many(6000, &|i| format!("flow a{i}(I)=>(O){{g(a=all I)=>(O=o);}}")), "1024 flows"),
        (many(11_000, &|i| format!("function a{i}(I)=>(O);")), "1024 functions"),
        (many(16_000, &|i| format!("set a{i}=\"\";")), "1024 sets of fixed items"),
        (format!("{f} flow c(I)=>(O){{ {} }}", many(9000, &|i| format!("f(a=all Q{i})=>();"))), "1024 applications"),
        (
            format!(
                "{f} flow c(I)=>(O){{ {} }}",
                many(1000, &|i| format!(
                    "f(a=all Q{})=>(P{}=o);",
                    "x".repeat(60) + &i.to_string(),
                    "x".repeat(60) + &(i * 7919).to_string()
                ))
            ),
            "nobody makes",
        ),
        (
            format!(
                "{f} flow c(I)=>(O){{ {} }}",
                many(1000, &|i| format!("f(a=all X{})=>(X{}=o);", (i + 1) % 1000, i))
            ),
            "wait for each other",
        ),
        ("😀".repeat(60_000), "has no meaning"),
        (format!("set S = \"{}\";", "\\u{".repeat(80_000)), "no such escape"),
    ];
    for (text, said) in texts {
        assert!(text.len() <= super::LONGEST);
        let start = std::time::Instant::now();
        let checked = check(&text, None, &Offline);
        let took = start.elapsed();
        assert!(took.as_secs() < 5, "{took:?} for {}…", &text[..40]);
        let message = checked.render("text");
        assert!(checked.program.is_none() && message.contains(said), "{}", &message[..message.len().min(2000)]);
        assert!(checked.diagnostics.iter().all(|found| found.message.len() < 1000));
    }
}

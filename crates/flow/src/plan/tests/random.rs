//! Flows and inputs by chance: all modes, joins and nestings, small enough to be interpreted many times.

use sets::{Item, Set, Sets};

/// Xorshift: enough to be different, the same for the same seed.
pub struct Chance(u64);

impl Chance {
    pub fn new() -> Self {
        Self(std::env::var("SEED").map_or(1, |seed| seed.parse().expect("SEED is a number but 0")))
    }

    pub fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }

    fn one_of<'a>(&mut self, words: &[&'a str]) -> &'a str {
        words[self.below(words.len())]
    }

    /// A text whose last flow takes `A` and `B`, and items for these.
    pub fn flow(&mut self) -> (String, Sets<String>) {
        let mut text = String::from("set S = \"s\" key 1, \"t\";\n");
        let inner = self.below(3);
        for index in 0..inner {
            text += &self.body(&format!("inner{index}"), index);
        }
        text += &self.body("main", inner);
        let mut inputs = Vec::new();
        for name in ["A", "B"] {
            let item =
                |index: usize, key: usize| Item::new(format!("{name}{index}"), key as u64, format!("{name}{index}"));
            let items = (0..self.below(5)).map(|index| item(index, self.below(3))).collect();
            inputs.push(Set::new(name, items));
        }
        (text, inputs)
    }

    /// A flow of a few applications; those before it can be within it.
    fn body(&mut self, name: &str, inner: usize) -> String {
        let mut sets: Vec<String> = ["A", "B", "S"].map(str::to_owned).to_vec();
        let mut text = format!("flow {name}(A, B) => (X, Y) {{\n");
        let count = 1 + self.below(4);
        for index in 0..count {
            let nested = inner > 0 && self.below(3) == 0;
            let (target, ports) = match nested {
                true => (format!("inner{}", self.below(inner)), vec!["A", "B"]),
                false => (format!("f{index}"), ["p", "q", "r"][..self.below(4)].to_vec()),
            };
            let plain = nested && self.below(2) == 0;
            let inputs: Vec<String> = ports.iter().map(|port| self.input(port, &sets, plain)).collect();
            let by = if plain { String::new() } else { self.by(&ports, &inputs) };
            let outputs: Vec<String> = ["X", "Y"].iter().map(|result| format!("M{index}{result} = {result}")).collect();
            let on_error = if !nested && self.below(4) == 0 { " on error skip" } else { "" };
            text += &format!("  {target}({}) => ({}){by}{on_error};\n", inputs.join(", "), outputs.join(", "));
            sets.extend(["X", "Y"].map(|result| format!("M{index}{result}")));
        }
        // What a flow gives is named by its sets: the last two of them are called so.
        let last = count - 1;
        let rename = |text: String, from: String, to: &str| text.replace(&format!("{from} = "), &format!("{to} = "));
        text = rename(text, format!("M{last}X"), "X");
        rename(text, format!("M{last}Y"), "Y") + "}\n"
    }

    fn input(&mut self, port: &str, sets: &[String], plain: bool) -> String {
        let set = &sets[self.below(sets.len())];
        let optional = if self.below(3) == 0 { "optional " } else { "" };
        let mode = match plain {
            true => "all",
            false => self.one_of(&["all", "each", "each", "keyed", "anyEach", "anyKeyed"]),
        };
        format!("{port} = {optional}{mode} {set}")
    }

    /// Some of the inputs that are divided, joined.
    fn by(&mut self, ports: &[&str], inputs: &[String]) -> String {
        let divided: Vec<&str> =
            ports.iter().zip(inputs).filter(|(_, input)| !input.contains(" all ")).map(|(port, _)| *port).collect();
        if divided.len() < 2 || self.below(3) == 0 {
            return String::new();
        }
        let mut by = format!(" by {}", divided[0]);
        for port in &divided[1..] {
            by += &format!(" {} {port}", self.one_of(&["inner", "left", "right", "full", "cross"]));
        }
        by
    }
}

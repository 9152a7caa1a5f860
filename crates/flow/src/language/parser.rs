//! Tokens to a [`Module`]. Where something is wrong it is said, and reading goes on behind the next `;`, so that one run
//! tells of several faults. Nothing nests but statements in flows: reading takes no stack that a text could exhaust.

use super::ast::{
    Application, Content, Flow, Function, Input, Module, Name, OnError, OnErrorKind, Output, Static, StaticItem,
};
use super::diagnostic::Findings;
use super::lexer::{Lexeme, Token, lex};
use crate::graph::{Join, Mode};

/// Said where reading cannot go on; the fault itself has been noted.
struct Lost;
type Read<T> = Result<T, Lost>;

pub fn parse(text: &str, findings: &mut Findings<'_>) -> Module {
    let lexemes = lex(text, findings);
    let mut parser = Parser { text, lexemes, at: 0, findings };
    let mut module = Module::default();
    while parser.token() != &Token::End {
        let start = parser.at;
        if parser.declaration(&mut module).is_err() {
            parser.recover_outside(start);
        }
    }
    module
}

const MODES: [(&str, Mode); 5] = [
    ("anyKeyed", Mode::AnyKeyed),
    ("anyEach", Mode::AnyEach),
    ("keyed", Mode::Keyed),
    ("each", Mode::Each),
    ("all", Mode::All),
];
const JOINS: [(&str, Join); 6] = [
    ("cross", Join::Cross),
    ("inner", Join::Inner),
    ("left", Join::Left),
    ("right", Join::Right),
    ("full", Join::Full),
    // What Dandelion's manual says, and its parser does not take.
    ("outer", Join::Full),
];

struct Parser<'a, 'f, 't> {
    text: &'a str,
    lexemes: Vec<Lexeme>,
    at: usize,
    findings: &'f mut Findings<'t>,
}

impl Parser<'_, '_, '_> {
    fn declaration(&mut self, module: &mut Module) -> Read<()> {
        match self.word() {
            Some("function") => module.functions.push(self.function()?),
            Some("composition" | "flow") => module.flows.push(self.flow()?),
            Some("set") => module.statics.push(self.static_set()?),
            other => {
                let other = other.unwrap_or_default().to_owned();
                let words = ["function", "flow", "composition", "set"];
                self.unexpected("`function`, `flow` or `set`");
                self.findings.hint_near(&other, &words, "a text is made of these");
                return Err(Lost);
            }
        }
        Ok(())
    }

    fn function(&mut self) -> Read<Function> {
        self.next();
        let name = self.name("the function's name")?;
        let inputs = self.names("a set that it takes")?;
        self.arrow()?;
        let outputs = self.names("a set that it gives")?;
        self.sign(';', "at the end of the declaration")?;
        Ok(Function { name, inputs, outputs })
    }

    fn flow(&mut self) -> Read<Flow> {
        self.next();
        let name = self.name("the flow's name")?;
        let inputs = self.names("a set that it takes")?;
        self.arrow()?;
        let outputs = self.names("a set that it gives")?;
        self.sign('{', "before what the flow does")?;
        let mut flow = Flow { name, inputs, outputs, statics: Vec::new(), applications: Vec::new() };
        loop {
            if self.take('}') {
                return Ok(flow);
            }
            if self.token() == &Token::End || self.begins_declaration() {
                let message = format!("flow `{}` does not end", flow.name.text);
                self.findings.error(&flow.name.span, message).hint("end it with `}`");
                return Ok(flow);
            }
            // Dandelion takes no empty statement; here it costs nothing to be lenient.
            if !self.take(';') && self.statement(&mut flow).is_err() {
                self.recover_inside();
            }
        }
    }

    fn statement(&mut self, flow: &mut Flow) -> Read<()> {
        if self.word() == Some("set") && self.lexemes[self.at + 1].token == Token::Word {
            flow.statics.push(self.static_set()?);
        } else {
            flow.applications.push(self.application()?);
        }
        Ok(())
    }

    fn static_set(&mut self) -> Read<Static> {
        self.next();
        let name = self.name("the set's name")?;
        self.sign('=', "before the set's items")?;
        let mut items = vec![self.static_item()?];
        while self.take(',') {
            items.push(self.static_item()?);
        }
        self.sign(';', "at the end of the set")?;
        Ok(Static { name, items })
    }

    fn static_item(&mut self) -> Read<StaticItem> {
        let named = matches!(self.token(), Token::Text(_)) && self.lexemes[self.at + 1].token == Token::Sign(':');
        let name = if named { Some(self.item_name()?) } else { None };
        let content = match self.word() {
            Some("file") => {
                self.next();
                Content::File(self.string("the file's path, in double quotes")?)
            }
            _ => Content::Text(self.string("a text in double quotes, or `file \"PATH\"`")?),
        };
        let mut key = 0;
        if self.word() == Some("key") {
            self.next();
            match *self.token() {
                Token::Number(number) => key = number,
                _ => return Err(self.unexpected("a number: the item's key")),
            }
            self.next();
        }
        Ok(StaticItem { name, key, content })
    }

    fn item_name(&mut self) -> Read<Name> {
        let span = self.here();
        let text = self.string("the item's name")?;
        self.next();
        Ok(Name { text, span })
    }

    fn application(&mut self) -> Read<Application> {
        let start = self.here().start;
        let target = self.target()?;
        self.sign('(', "before what is applied to it")?;
        let inputs = self.listed(Self::input)?;
        self.arrow()?;
        self.sign('(', "before the sets that it makes")?;
        let outputs = self.listed(Self::output)?;
        let by = if self.word() == Some("by") { self.by()? } else { Vec::new() };
        let on_error = if self.word() == Some("on") { Some(self.on_error()?) } else { None };
        let span = start..self.behind();
        self.sign(';', "at the end of the application")?;
        Ok(Application { target, inputs, outputs, by, on_error, span })
    }

    /// `NAME` or `NAME:QUALIFIER`.
    fn target(&mut self) -> Read<Name> {
        let mut name = self.name("a function or a flow to apply")?;
        if self.take(':') {
            match self.token() {
                Token::Word | Token::Number(_) => self.next(),
                _ => return Err(self.unexpected("a version or an alias")),
            }
            name.span.end = self.behind();
            self.text[name.span.clone()].clone_into(&mut name.text);
            name.text.retain(|c| !c.is_whitespace());
        }
        Ok(name)
    }

    fn input(&mut self) -> Read<Input> {
        let parameter = self.name("a set that the function takes")?;
        self.sign('=', "between the function's set and the flow's")?;
        let mut optional = false;
        if self.word() == Some("optional") {
            optional = true;
            self.next();
        }
        let word = self.name("`all`, `each` or `keyed`")?;
        if let Some((_, mode)) = MODES.iter().find(|(text, _)| *text == word.text) {
            let set = self.name("the set that it is given")?;
            return Ok(Input { parameter, optional, mode: *mode, set });
        }
        // Dandelion's parser wants no space between the mode and the set.
        let (optional, rest) = match word.text.strip_prefix("optional") {
            Some(rest) => (true, rest),
            None => (optional, word.text.as_str()),
        };
        let glued = MODES.iter().find_map(|(text, mode)| Some((*mode, rest.strip_prefix(text)?)));
        if let Some((mode, set)) = glued.filter(|(_, set)| !set.is_empty() && self.token() != &Token::Word) {
            let span = word.span.end - set.len()..word.span.end;
            let set = Name { text: set.to_owned(), span };
            return Ok(Input { parameter, optional, mode, set });
        }
        let known = MODES.map(|(text, _)| text);
        let is_word = self.token() == &Token::Word;
        let finding = self.findings.error(&word.span, "here stands how the set is divided");
        if is_word {
            finding.hint_near(&word.text, &known, "");
        } else {
            finding.hint(format!(
                "write `all {0}` for all of it at once, `each {0}` for one item at a time, `keyed {0}` for all items of one key",
                word.text
            ));
        }
        Err(Lost)
    }

    fn output(&mut self) -> Read<Output> {
        let set = self.name("the set to make")?;
        self.sign('=', "between the flow's set and the function's")?;
        let result = self.name("a set that the function gives")?;
        Ok(Output { set, result })
    }

    /// `by a inner b left c`: each name with the join that ties it to the one before.
    fn by(&mut self) -> Read<Vec<(Name, Option<Join>)>> {
        self.next();
        let mut by = vec![(self.name("an input to join")?, None)];
        while let Some(word) = self.word() {
            let Some((_, join)) = JOINS.iter().find(|(text, _)| *text == word) else { break };
            self.next();
            by.push((self.name("an input to join")?, Some(*join)));
        }
        if self.token() == &Token::Word && self.word() != Some("on") {
            let word = self.word().unwrap_or_default().to_owned();
            self.unexpected("a join, or the end of the application");
            let known = JOINS.map(|(text, _)| text);
            self.findings.hint_near(&word, &known[..5], "");
            return Err(Lost);
        }
        Ok(by)
    }

    fn on_error(&mut self) -> Read<OnError> {
        let start = self.here().start;
        self.next();
        if self.word() != Some("error") {
            return Err(self.unexpected("`error`: `on error skip`, `on error fail` or `on error => SET`"));
        }
        self.next();
        let kind = match (self.token(), self.word()) {
            (Token::Arrow, _) => {
                self.next();
                OnErrorKind::Into(self.name("the set that gets the reports")?)
            }
            (_, Some("fail")) => {
                self.next();
                OnErrorKind::Fail
            }
            (_, Some("skip")) => {
                self.next();
                OnErrorKind::Skip
            }
            _ => return Err(self.unexpected("`fail`, `skip` or `=> SET`")),
        };
        Ok(OnError { kind, span: start..self.behind() })
    }

    /// `item, …)`, its opening parenthesis behind us. A comma at the end is fine.
    fn listed<T>(&mut self, one: impl Fn(&mut Self) -> Read<T>) -> Read<Vec<T>> {
        let mut all = Vec::new();
        while !self.take(')') {
            all.push(one(self)?);
            if !self.take(',') && self.token() != &Token::Sign(')') {
                return Err(self.unexpected("`,` or `)`"));
            }
        }
        Ok(all)
    }

    fn names(&mut self, what: &str) -> Read<Vec<Name>> {
        self.sign('(', "before the names of sets")?;
        self.listed(|parser| parser.name(what))
    }

    fn name(&mut self, what: &str) -> Read<Name> {
        if self.token() != &Token::Word {
            return Err(self.unexpected(what));
        }
        let span = self.here();
        self.next();
        let name = Name { text: self.text[span.clone()].to_owned(), span };
        if let Err(error) = sets::name::check(&name.text) {
            self.findings.error(&name.span, error.to_string());
        }
        Ok(name)
    }

    fn string(&mut self, what: &str) -> Read<String> {
        let Token::Text(text) = self.token() else { return Err(self.unexpected(what)) };
        let text = text.clone();
        self.next();
        Ok(text)
    }

    fn arrow(&mut self) -> Read<()> {
        match self.token() {
            Token::Arrow => {
                self.next();
                Ok(())
            }
            _ => Err(self.unexpected("`=>` before what comes out")),
        }
    }

    fn sign(&mut self, sign: char, place: &str) -> Read<()> {
        if self.take(sign) {
            return Ok(());
        }
        Err(self.unexpected(&format!("`{sign}` {place}")))
    }

    fn take(&mut self, sign: char) -> bool {
        let is = self.token() == &Token::Sign(sign);
        if is {
            self.next();
        }
        is
    }

    fn token(&self) -> &Token {
        &self.lexemes[self.at].token
    }

    fn word(&self) -> Option<&str> {
        (self.token() == &Token::Word).then(|| &self.text[self.here()])
    }

    fn here(&self) -> std::ops::Range<usize> {
        self.lexemes[self.at].span.clone()
    }

    /// Where the token before this one ends.
    fn behind(&self) -> usize {
        self.at.checked_sub(1).map_or(0, |before| self.lexemes[before].span.end)
    }

    /// The end of the text stays: it is what every list of tokens ends with.
    fn next(&mut self) {
        self.at = (self.at + 1).min(self.lexemes.len() - 1);
    }

    fn unexpected(&mut self, wanted: &str) -> Lost {
        let span = self.here();
        let found = match self.token() {
            Token::End => "the text ends".to_owned(),
            Token::Text(_) => "there is a text".to_owned(),
            _ => format!("there is `{}`", &self.text[span.clone()]),
        };
        // At the end there is nothing to point at but what stands before it.
        let span = if span.is_empty() { self.behind().saturating_sub(1)..self.behind() } else { span };
        let span = if self.text.is_char_boundary(span.start) { span } else { 0..0 };
        self.findings.error(&span, format!("{found} where {wanted} is expected"));
        Lost
    }

    /// Behind the next `;`, or before what ends the flow or begins another declaration.
    fn recover_inside(&mut self) {
        loop {
            match self.token() {
                Token::End | Token::Sign('}') => return,
                Token::Sign(';') => return self.next(),
                _ if self.begins_declaration() => return,
                _ => self.next(),
            }
        }
    }

    /// Before what begins the next declaration.
    fn recover_outside(&mut self, start: usize) {
        if self.at == start {
            self.next();
        }
        while self.token() != &Token::End && !self.begins_declaration() {
            self.next();
        }
    }

    fn begins_declaration(&self) -> bool {
        let named = self.lexemes.get(self.at + 1).is_some_and(|next| next.token == Token::Word);
        named && matches!(self.word(), Some("function" | "flow" | "composition"))
    }
}

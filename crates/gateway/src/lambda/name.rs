//! Which function: names, partial and whole ARNs, and qualifiers.

use super::constraint;
use super::fault::Fault;
use super::scope::{self, Scope};
use crate::gateway::Gateway;
use crate::route::Exchange;
use api::lambda::{LATEST, NAME_MAX};
use daemon::node::Account;
use runtime::registry::{Entry, FunctionId, Qualified, Record};
use std::borrow::Cow;
use std::sync::Arc;
use uuid::Uuid;

const QUALIFIER_MAX: usize = 128;
/// What is written for a function where one is made, or nothing but a function can be meant.
const PLAIN: Grammar = Grammar {
    max: 140,
    pattern: "(arn:(aws[a-zA-Z-]*)?:lambda:)?((eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\\d{1}:)?\
        (\\d{12}:)?(function:)?([a-zA-Z0-9-_]+)(:(\\$LATEST|[a-zA-Z0-9-_]+))?",
    more: false,
};
/// The same where versions and aliases can be. No function has a dot in its name, or is that long.
const NAMESPACED: Grammar = Grammar {
    max: 256,
    pattern: "(arn:(aws[a-zA-Z-]*)?:lambda:)?((eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\\d{1}:)?\
        (\\d{12}:)?(function:)?([a-zA-Z0-9-_\\.]+)(:(\\$LATEST(\\.PUBLISHED)?|[a-zA-Z0-9-_]+))?",
    more: true,
};
const PUBLISHED: &str = "$LATEST.PUBLISHED";
const QUALIFIER_PATTERN: &str = "\\$(LATEST(\\.PUBLISHED)?)|[a-zA-Z0-9-_$]+";
const DISAGREE: &str = "The derived qualifier from the function name does not match the specified qualifier.";
const ANOTHER_ACCOUNT: &str = "This function belongs to another account, and keys are for their own.";
const FUNCTIONS_ONLY: &str = "This operation is permitted on Lambda functions only. Aliases and versions do not support \
    this operation. Please specify either a function name or an unqualified function ARN.";

/// Which of AWS's two ways to write a function is asked for.
struct Grammar {
    /// Characters.
    max: usize,
    pattern: &'static str,
    /// Dots in names, and [`PUBLISHED`].
    more: bool,
}

/// What a caller wrote for a function, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Written<'a> {
    region: Option<&'a str>,
    account: Option<&'a str>,
    name: &'a str,
    qualifier: Option<&'a str>,
}

/// A function that a request means, whether there is one or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target<'a> {
    pub account: Cow<'a, str>,
    pub region: Cow<'a, str>,
    pub name: Cow<'a, str>,
    pub qualifier: Option<Cow<'a, str>>,
}

impl Target<'_> {
    pub fn id(&self) -> FunctionId {
        let [account, region, name] = [&self.account, &self.region, &self.name].map(|part| part.clone().into_owned());
        FunctionId { account, region, name }
    }

    /// The ARN, with the qualifier that was given.
    pub fn arn(&self) -> String {
        let qualifier = self.qualifier.as_ref().map(|qualifier| format!(":{qualifier}")).unwrap_or_default();
        self.id().arn() + &qualifier
    }

    pub fn not_found(&self) -> Fault {
        Fault::function_not_found(self.arn())
    }

    /// The same for operations that AWS tells of a version, be it one that nobody named.
    pub fn version_not_found(&self) -> Fault {
        match self.qualifier {
            Some(_) => self.not_found(),
            None => Fault::function_not_found(format!("{}:{LATEST}", self.arn())),
        }
    }

    pub fn alias_not_found(&self) -> Fault {
        Fault::not_found(format!("Cannot find alias arn: {}", self.arn()))
    }

    /// The function with all that belongs to it, whatever the qualifier.
    pub fn record(&self, gateway: &Gateway) -> Result<Arc<Record>, Fault> {
        gateway.registry.record(&self.account, &self.region, &self.name).ok_or_else(|| self.not_found())
    }

    /// The version that is meant; of an alias, the one to which most of its traffic goes.
    pub fn find(&self, gateway: &Gateway) -> Result<Arc<Entry>, Fault> {
        let record = self.record(gateway)?;
        record.qualified(self.qualifier.as_deref().unwrap_or(LATEST)).cloned().ok_or_else(|| self.not_found())
    }

    /// The version for one invocation: an alias chooses by its weights.
    pub fn choose(&self, gateway: &Gateway) -> Result<Arc<Entry>, Fault> {
        let record = self.record(gateway).map_err(|_| self.version_not_found())?;
        match &self.qualifier {
            None => Ok(record.latest.clone()),
            Some(qualifier) => pick(&record, qualifier).ok_or_else(|| self.not_found()),
        }
    }

    /// The function; one that is not where the request looks is found in another account or region, if it is only there.
    /// For faces without credentials, whose callers cannot say where to look.
    pub fn find_anywhere(&self, gateway: &Gateway) -> Result<Arc<Entry>, Fault> {
        if self.record(gateway).is_ok() {
            return self.choose(gateway);
        }
        match &gateway.registry.named(&self.name)[..] {
            [only] => {
                let FunctionId { account, region, .. } = &only.id;
                Target { account: account.into(), region: region.into(), ..self.clone() }.choose(gateway)
            }
            _ => Err(self.not_found()),
        }
    }

    /// Where something is to hang on the function: a version or an alias that there is; [`LATEST`] without a qualifier.
    pub fn place(&self, record: &Record) -> Result<String, Fault> {
        let qualifier = self.qualifier.as_deref().unwrap_or(LATEST);
        match (record.qualified(qualifier), Qualified::of(qualifier)) {
            (Some(_), _) => Ok(qualifier.to_owned()),
            // What no alias can be called is none that is missing.
            (None, Qualified::Alias(name)) if !name.contains('$') => Err(self.alias_not_found()),
            (None, _) => Err(self.not_found()),
        }
    }
}

/// The version for one invocation by a qualifier.
pub fn pick(record: &Record, qualifier: &str) -> Option<Arc<Entry>> {
    record.chosen(qualifier, lot()).cloned()
}

/// A random number from 0 to below 1.
fn lot() -> f64 {
    const BITS: u32 = 48;
    // These bits of a random UUID are random, the ones below say that it is one.
    (Uuid::new_v4().as_u128() >> (u128::BITS - BITS)) as f64 / (1u64 << BITS) as f64
}

/// The function that the path's first star and the query's `Qualifier` mean.
pub fn of_path(exchange: &Exchange) -> Result<Target<'_>, Fault> {
    let scope = scope::of(&exchange.head, &exchange.gateway.config.node);
    resolve(exchange.capture(0), exchange.query("Qualifier"), scope)
}

/// The same where only a function can be meant, and no version or alias of it.
pub fn function_of_path(exchange: &Exchange) -> Result<Target<'_>, Fault> {
    let scope = scope::of(&exchange.head, &exchange.gateway.config.node);
    let target = read(&PLAIN, exchange.capture(0), exchange.query("Qualifier"), scope)?;
    match target.qualifier {
        None => Ok(target),
        Some(_) => Err(Fault::invalid_parameter(FUNCTIONS_ONLY)),
    }
}

/// The function that a name and a qualifier mean in a scope.
pub fn resolve<'a>(text: Cow<'a, str>, qualifier: Option<Cow<'a, str>>, scope: Scope<'a>) -> Result<Target<'a>, Fault> {
    read(&NAMESPACED, text, qualifier, scope)
}

/// The function that is to be made under a name.
pub fn resolve_new<'a>(text: Cow<'a, str>, scope: Scope<'a>) -> Result<Target<'a>, Fault> {
    let target = read(&PLAIN, text, None, scope)?;
    if target.name.len() > NAME_MAX {
        let rule = format!("Member must have length less than or equal to {NAME_MAX}");
        return Err(Fault::invalid_parameter(constraint::sentence("functionName", &target.name, &rule)));
    }
    Ok(target)
}

fn read<'a>(
    grammar: &Grammar,
    text: Cow<'a, str>,
    qualifier: Option<Cow<'a, str>>,
    scope: Scope<'a>,
) -> Result<Target<'a>, Fault> {
    let wrong = wrong_qualifier(qualifier.as_deref());
    match text {
        Cow::Borrowed(text) => place(parse(grammar, text, wrong)?, qualifier, scope),
        Cow::Owned(text) => {
            let Target { account, region, name, qualifier } = place(parse(grammar, &text, wrong)?, qualifier, scope)?;
            let own = |part: Cow<'_, str>| Cow::Owned(part.into_owned());
            Ok(Target { account: own(account), region: own(region), name: own(name), qualifier: qualifier.map(own) })
        }
    }
}

fn place<'a>(written: Written<'a>, qualifier: Option<Cow<'a, str>>, scope: Scope<'a>) -> Result<Target<'a>, Fault> {
    if let Some(region) = written.region.filter(|region| *region != scope.region) {
        let message = format!("Functions from '{region}' are not reachable in this region ('{}')", scope.region);
        return Err(Fault::not_found(message));
    }
    let qualifier = match (written.qualifier, qualifier) {
        (Some(one), Some(other)) if one != other => return Err(Fault::invalid_parameter(DISAGREE)),
        (Some(one), _) => Some(Cow::Borrowed(one)),
        (None, other) => other,
    };
    if scope.known && written.account.is_some_and(|account| account != scope.account) {
        return Err(Fault::access_denied(ANOTHER_ACCOUNT));
    }
    let account = written.account.map_or(scope.account, Cow::Borrowed);
    Ok(Target { account, region: scope.region, name: Cow::Borrowed(written.name), qualifier })
}

/// Takes a text apart, or tells what is wrong with it, and with the qualifier beside it.
fn parse<'a>(grammar: &Grammar, text: &'a str, wrong: Option<String>) -> Result<Written<'a>, Fault> {
    let written = take_apart(text, grammar.more);
    let mut broken: Vec<String> = wrong.into_iter().collect();
    let mut complain = |rule: String| {
        broken.push(constraint::complaint("functionName", Some(&format!("'{text}'")), &rule));
    };
    if text.len() > grammar.max {
        complain(format!("Member must have length less than or equal to {}", grammar.max));
    }
    if written.is_none() {
        complain(format!("Member must satisfy regular expression pattern: {}", grammar.pattern));
    }
    match written {
        Some(written) if broken.is_empty() => Ok(written),
        _ => Err(Fault::validation(constraint::counted(&broken))),
    }
}

/// The patterns above, by hand: every invocation passes here.
fn take_apart(text: &str, more: bool) -> Option<Written<'_>> {
    let is_word =
        |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
    let is_name = |part: &str| match more {
        true => part.split('.').all(|part| part.is_empty() || is_word(part)) && !part.is_empty(),
        false => is_word(part),
    };
    if is_name(text) {
        return Some(Written { region: None, account: None, name: text, qualifier: None });
    }
    let parts: Vec<&str> = text.split(':').collect();
    let mut rest = &parts[..];
    if let ["arn", partition, "lambda", more @ ..] = rest {
        let is_partition = partition.is_empty() || partition.strip_prefix("aws").is_some_and(is_partition_rest);
        rest = if is_partition { more } else { return None };
    }
    let is_qualifier = |part: &str| part == LATEST || (more && part == PUBLISHED) || is_word(part);
    // What is optional is only there when something follows it: a function may be called `us-east-1`.
    let mut optional = |is_meant: fn(&str) -> bool| match rest {
        [first, more @ ..] if !more.is_empty() && is_meant(first) => {
            rest = more;
            Some(*first)
        }
        _ => None,
    };
    let region = optional(is_region);
    let account = optional(Account::is_valid);
    optional(|part| part == "function");
    match *rest {
        [name] if is_name(name) => Some(Written { region, account, name, qualifier: None }),
        [name, qualifier] if is_name(name) && is_qualifier(qualifier) => {
            Some(Written { region, account, name, qualifier: Some(qualifier) })
        }
        _ => None,
    }
}

fn is_partition_rest(rest: &str) -> bool {
    rest.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'-')
}

fn is_region(part: &str) -> bool {
    let digits = part.rsplit('-').next().is_some_and(|last| last.len() == 1 && last.as_bytes()[0].is_ascii_digit());
    digits && part.split('-').count() >= 3 && daemon::node::Region::is_valid(part)
}

/// What is wrong with a qualifier.
fn wrong_qualifier(qualifier: Option<&str>) -> Option<String> {
    let qualifier = qualifier?;
    let is_known = |byte: u8| byte.is_ascii_alphanumeric() || b"-_$".contains(&byte);
    let rule = match qualifier.len() {
        0 => "Member must have length greater than or equal to 1".to_owned(),
        length if length > QUALIFIER_MAX => format!("Member must have length less than or equal to {QUALIFIER_MAX}"),
        _ if qualifier == PUBLISHED || qualifier.bytes().all(is_known) => return None,
        _ => format!("Member must satisfy regular expression pattern: {QUALIFIER_PATTERN}"),
    };
    Some(constraint::complaint("qualifier", Some(&format!("'{qualifier}'")), &rule))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope() -> Scope<'static> {
        Scope { account: "000000000000".into(), region: "us-east-1".into(), known: false }
    }

    fn target(text: &'static str, qualifier: Option<&'static str>) -> Result<[String; 4], Fault> {
        let target = resolve(text.into(), qualifier.map(Cow::Borrowed), scope())?;
        let qualifier = target.qualifier.unwrap_or_default();
        Ok([target.account, target.region, target.name, qualifier].map(Cow::into_owned))
    }

    #[test]
    fn all_ways_to_write_a_name() {
        let own = |qualifier: &str| Ok(["000000000000", "us-east-1", "f", qualifier].map(str::to_owned));
        let other = |qualifier: &str| Ok(["123456789012", "us-east-1", "f", qualifier].map(str::to_owned));
        assert_eq!(target("f", None), own(""));
        assert_eq!(target("f:$LATEST", None), own("$LATEST"));
        assert_eq!(target("f", Some("$LATEST")), own("$LATEST"));
        assert_eq!(target("function:f:7", Some("7")), own("7"));
        assert_eq!(target("us-east-1:f", None), own(""));
        assert_eq!(target("123456789012:function:f", None), other(""));
        assert_eq!(target("123456789012:f:live", None), other("live"));
        assert_eq!(target("arn:aws:lambda:us-east-1:123456789012:function:f", None), other(""));
        assert_eq!(target("arn:aws-us-gov:lambda:us-east-1:123456789012:function:f:$LATEST", None), other("$LATEST"));
        assert_eq!(target("123456789012", None).unwrap()[2], "123456789012");
        assert_eq!(target("function", None).unwrap()[2], "function");
    }

    #[test]
    fn what_is_no_name_is_refused_in_lambdas_words() {
        for wrong in
            ["invalid:function:name", "a/b", "", "f:", "arn:aws:s3:us-east-1:123456789012:function:f", "a:b:c:d:e:f:g"]
        {
            let message = target(wrong, None).unwrap_err().message().to_owned();
            let head = format!(
                "1 validation error detected: Value '{wrong}' at 'functionName' failed to satisfy constraint: Member must satisfy regular expression pattern: (arn:(aws"
            );
            assert!(message.starts_with(&head), "{message}");
        }
    }

    #[test]
    fn lengths() {
        // Whoever asks for a function of a name that none can have finds none.
        let long: &'static str = "a".repeat(65).leak();
        assert_eq!(target(long, None).unwrap()[2], long);
        let fault = resolve_new(long.into(), scope()).unwrap_err();
        assert!(fault.message().ends_with("Member must have length less than or equal to 64"), "{fault:?}");
        let longer: &'static str = "a".repeat(257).leak();
        assert!(target(longer, None).unwrap_err().message().ends_with("length less than or equal to 256"));
        let all = target("a/b", Some("?")).unwrap_err().message().to_owned();
        assert!(all.starts_with("2 validation errors detected: Value '?' at 'qualifier' failed"), "{all}");
        assert!(all.contains("; Value 'a/b' at 'functionName' failed"), "{all}");
    }

    #[test]
    fn more_is_taken_where_versions_can_be_meant() {
        for text in ["f.g", "f:$LATEST.PUBLISHED"] {
            assert!(take_apart(text, true).is_some() && take_apart(text, false).is_none(), "{text}");
        }
    }

    #[test]
    fn qualifiers_and_regions_must_agree() {
        assert_eq!(target("f:1", Some("2")).unwrap_err().message(), DISAGREE);
        assert_eq!(
            target("arn:aws:lambda:eu-west-1:123456789012:function:f", None).unwrap_err().message(),
            "Functions from 'eu-west-1' are not reachable in this region ('us-east-1')"
        );
        let fault = target("f", Some("invalid-qualifier-with-?-char")).unwrap_err();
        assert!(fault.message().ends_with("pattern: \\$(LATEST(\\.PUBLISHED)?)|[a-zA-Z0-9-_$]+"), "{fault:?}");
    }

    /// The parser by hand against the pattern's own words, on texts made of the pattern's own pieces.
    #[test]
    fn whatever_is_taken_apart_is_put_together_again() {
        const PIECES: [&str; 12] =
            ["arn", "aws", "lambda", "us-east-1", "123456789012", "function", "f", ":", ":", ":", "$LATEST", ""];
        let mut state = 1u32;
        for _ in 0..20_000 {
            let text: String = (0..8)
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    PIECES[(state >> 16) as usize % PIECES.len()]
                })
                .collect();
            let Some(written) = take_apart(&text, false) else { continue };
            let tail: String =
                [Some(written.name), written.qualifier].into_iter().flatten().collect::<Vec<_>>().join(":");
            assert!(text.ends_with(&tail), "{text}: {written:?}");
            let all = text.split(':').all(|part| part.is_empty() || part == LATEST || !part.contains('$'));
            assert!(all && !written.name.is_empty(), "{text}: {written:?}");
        }
    }
}

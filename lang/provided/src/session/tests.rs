//! The order of things, without programs or clients: requests in, acts out. How it is with real ones is for the end-to-end
//! tests to say.

use super::*;

const CONFIG: &str = r#"{"function_name": "f", "function_version": "1", "function_arn": "arn:aws:lambda:r:123:function:f",
    "handler": "h", "memory_mib": 128, "timeout_s": 3, "region": "r", "log_group": "g", "log_stream": "s",
    "initialization_type": "on-demand", "runtime": "provided", "response_max": 10, "environment": {}}"#;

fn session(extensions: &[&str]) -> Session {
    let config = Config::of(None, CONFIG.as_bytes()).unwrap();
    Session::new(Rc::new(config), extensions.iter().map(|&name| name.to_owned()).collect())
}

fn begin(session: &mut Session, id: &str) {
    let invocation = Invocation { request_id: id, deadline_unix_ms: 7, ..Invocation::default() };
    session.begin(&invocation, b"event".to_vec());
}

/// A whole request on the connection `token`, as a client sends it: what follows from it.
fn ask(session: &mut Session, token: Token, line: &str, headers: &str, body: &str) -> Vec<Act> {
    let text = format!("{line} HTTP/1.1\r\n{headers}\r\n\r\n");
    let (head, ..) = crate::http::head(text.as_bytes()).unwrap().unwrap();
    match session.admit(token, &head) {
        Ok(_) => session.request(token, &head, body.into()),
        Err(response) => session.acts.push(Act::Answer(token, response)),
    }
    std::mem::take(&mut session.acts)
}

fn next(session: &mut Session, token: Token) -> Vec<Act> {
    ask(session, token, "GET /2018-06-01/runtime/invocation/next", "X: y", "")
}

fn respond(session: &mut Session, token: Token, id: &str, body: &str) -> Vec<Act> {
    ask(session, token, &format!("POST /2018-06-01/runtime/invocation/{id}/response"), "X: y", body)
}

fn register(session: &mut Session, name: &str, events: &str) -> String {
    let acts = ask(
        session,
        50,
        "POST /2020-01-01/extension/register",
        &format!("Lambda-Extension-Name: {name}"),
        &format!(r#"{{"events": [{events}]}}"#),
    );
    let [Act::Answer(50, response), ..] = &acts[..] else { panic!("{acts:?}") };
    assert_eq!(response.status, 200);
    session.acts.extend(acts.into_iter().skip(1));
    let id = session.extensions_id(name);
    assert!(id.len() == 36, "{id}");
    id
}

fn event_next(session: &mut Session, token: Token, id: &str) -> Vec<Act> {
    let line = "GET /2020-01-01/extension/event/next";
    ask(session, token, line, &format!("Lambda-Extension-Identifier: {id}"), "")
}

impl Session {
    fn extensions_id(&self, name: &str) -> String {
        self.extensions.id_of(name).unwrap_or_default().to_owned()
    }
}

/// What a connection was answered: status and body.
fn answer(acts: &[Act], token: Token) -> (u16, String) {
    let found = acts.iter().find_map(|act| match act {
        Act::Answer(to, response) if *to == token => {
            Some((response.status, String::from_utf8_lossy(&response.body).into_owned()))
        }
        _ => None,
    });
    found.unwrap_or_else(|| panic!("no answer for {token} among {acts:?}"))
}

#[test]
fn a_runtime_serves_one_after_the_other() {
    let mut session = session(&[]);
    assert_eq!(std::mem::take(&mut session.acts), [Act::Launch]);
    assert!(!session.is_idle());
    assert_eq!(next(&mut session, 1), [Act::Ready]);
    for id in ["a", "b"] {
        assert!(session.is_idle());
        begin(&mut session, id);
        assert_eq!(answer(&std::mem::take(&mut session.acts), 1), (200, "event".into()));
        assert!(!session.is_idle() && session.is_serving());
        let acts = respond(&mut session, 1, id, "done");
        assert_eq!((&acts[0], answer(&acts, 1).0), (&Act::Reply(b"done".to_vec()), 202));
        assert!(!session.is_idle() && !session.is_serving());
        assert_eq!(answer(&respond(&mut session, 1, id, "again"), 1).0, 400, "it was answered before");
        assert_eq!(next(&mut session, 1), []);
    }
}

#[test]
fn who_asks_again_gets_the_same_and_an_old_connection_is_closed() {
    let mut session = session(&[]);
    next(&mut session, 1);
    assert_eq!(next(&mut session, 2), [Act::Close(1)]);
    begin(&mut session, "a");
    assert_eq!(answer(&std::mem::take(&mut session.acts), 2).1, "event");
    assert_eq!(answer(&next(&mut session, 3), 3).1, "event");
    assert_eq!(respond(&mut session, 3, "a", "x").len(), 2);
}

#[test]
fn an_answer_is_bounded_and_whole_or_an_error() {
    let mut session = session(&[]);
    next(&mut session, 1);
    begin(&mut session, "a");
    let line = b"POST /2018-06-01/runtime/invocation/a/response HTTP/1.1\r\n\r\n";
    let (head, ..) = crate::http::head(line).unwrap().unwrap();
    assert_eq!(session.admit(1, &head), Ok(Intake::Whole(10)));
    assert_eq!(session.admit(2, &head).unwrap_err().status, 403, "one answers at a time");
    session.acts.clear();
    assert_eq!(session.too_long(1).status, 413);
    let [Act::Fail(error)] = &session.acts[..] else { panic!("{:?}", session.acts) };
    assert!(String::from_utf8_lossy(error).contains("Function.ResponseSizeTooLarge"));
    next(&mut session, 1);
    begin(&mut session, "a");
    session.admit(1, &head).unwrap();
    session.acts.clear();
    session.closed(1);
    let [Act::Fail(error)] = &session.acts[..] else { panic!("{:?}", session.acts) };
    assert!(String::from_utf8_lossy(error).contains("Runtime.TruncatedResponse"));
}

#[test]
fn a_restore_waits_for_the_first_invocation() {
    let mut session = session(&[]);
    session.acts.clear();
    assert_eq!(ask(&mut session, 1, "GET /2018-06-01/runtime/restore/next", "X: y", ""), [Act::Ready]);
    begin(&mut session, "a");
    assert_eq!(answer(&std::mem::take(&mut session.acts), 1), (200, String::new()));
    assert_eq!(answer(&next(&mut session, 1), 1).1, "event");
}

#[test]
fn extensions_come_first_and_last() {
    let mut session = session(&["watcher"]);
    assert_eq!(session.acts, [], "the runtime waits for those who watch it");
    let id = register(&mut session, "watcher", r#""INVOKE", "SHUTDOWN""#);
    assert_eq!(std::mem::take(&mut session.acts), [Act::Launch]);
    assert_eq!(next(&mut session, 1), [], "the extension has not asked for its first event");
    assert_eq!(event_next(&mut session, 2, &id), [Act::Ready]);
    begin(&mut session, "a");
    let acts = std::mem::take(&mut session.acts);
    assert!(answer(&acts, 2).1.contains(r#""eventType":"INVOKE""#) && answer(&acts, 1).1 == "event");
    assert!(respond(&mut session, 1, "a", "x").contains(&Act::Reply(b"x".to_vec())), "nobody waits for extensions");
    next(&mut session, 1);
    assert!(!session.is_idle(), "but the next invocation does");
    event_next(&mut session, 2, &id);
    assert!(session.is_idle());
    session.stop("spindown", End::Exit(0));
    assert_eq!(std::mem::take(&mut session.acts), [Act::Terminate]);
    session.runtime_ended(End::Signal(15));
    let acts = std::mem::take(&mut session.acts);
    assert!(answer(&acts, 2).1.contains(r#""shutdownReason":"spindown""#));
    assert_eq!(session.acts, [], "it may take its time");
    assert_eq!(event_next(&mut session, 2, &id), [Act::End(End::Exit(0))], "and is done when it asks for more");
}

#[test]
fn an_end_is_told_as_it_was() {
    let mut alone = session(&[]);
    next(&mut alone, 1);
    alone.acts.clear();
    alone.runtime_ended(End::Signal(9));
    assert_eq!(alone.acts, [Act::End(End::Signal(9))]);
    let mut watched = session(&["watcher"]);
    watched.extension_ended("watcher", End::Exit(3));
    let fault = Act::InitFault("Extension.Crash", "exit status 3".into());
    assert_eq!(watched.acts, [fault, Act::End(End::Exit(1))]);
    let mut absent = session(&[]);
    absent.acts.clear();
    absent.not_launched("no".into());
    assert_eq!(absent.acts, [Act::InitFault("Runtime.InvalidEntrypoint", "no".into()), Act::End(End::Exit(1))]);
}

//! What the module `lichen.fifo` is made of. Answers are pairs: a word, empty where all went well, and a value or a message.
//! Whatever may wait does so without the interpreter's lock.

use crate::object::{Object, Raised, without_lock};
use cfork::fifo::{self, FifoError, Heard};

/// `fifo(operation, *arguments) -> (word, value)`
pub fn fifo(arguments: &Object) -> Result<Object, Raised> {
    let operation = arguments.item(0)?.string()?;
    let text = |at: isize| arguments.item(at)?.string();
    let number = |at: isize| arguments.item(at)?.as_number();
    match operation.as_str() {
        "process_id" => answer(without_lock(fifo::process_id), id),
        "create" => {
            let (wanted, message_max) = (text(1)?, number(2)?);
            answer(without_lock(|| fifo::create(&wanted, message_max)), id)
        }
        "release" => {
            let fifo = text(1)?;
            answer(without_lock(|| fifo::release(&fifo)), nothing)
        }
        "grant" | "revoke" => {
            let (process, fifo, rights) = (text(1)?, text(2)?, text(3)?);
            let change = if operation == "grant" { fifo::grant } else { fifo::revoke };
            answer(without_lock(|| change(&process, &fifo, &rights)), nothing)
        }
        "reader" | "writer" => {
            let fifo = text(1)?;
            let connect = if operation == "reader" { fifo::reader } else { fifo::writer };
            answer(without_lock(|| connect(&fifo)), Object::number)
        }
        "close" => {
            let end = number(1)?;
            without_lock(|| fifo::close(end));
            nothing(())
        }
        "read" => {
            let (end, deadline) = (number(1)?, fifo::deadline(number(2)?));
            answer(without_lock(|| fifo::read(end, deadline)), heard)
        }
        "write" => {
            let (end, deadline, message) = (number(1)?, fifo::deadline(number(2)?), arguments.item(3)?);
            let bytes = message.contents()?;
            answer(without_lock(|| fifo::write(end, bytes, deadline)), nothing)
        }
        other => Err(Raised::Because(format!("there is no operation {other}"))),
    }
}

fn answer<T>(outcome: Result<T, FifoError>, value: impl FnOnce(T) -> Result<Object, Raised>) -> Result<Object, Raised> {
    match outcome {
        Ok(done) => Object::tuple([&Object::text(b"")?, &value(done)?]),
        Err(error) => {
            let message = Object::text(error.to_string().as_bytes())?;
            Object::tuple([&Object::text(error.word().as_bytes())?, &message])
        }
    }
}

fn id(id: String) -> Result<Object, Raised> {
    Object::text(id.as_bytes())
}

fn nothing((): ()) -> Result<Object, Raised> {
    Ok(Object::none())
}

/// `(sender, message, why)`: without a message there is a reason.
fn heard(heard: Heard) -> Result<Object, Raised> {
    let (from, bytes, why) = match heard {
        Heard::Message { from, bytes } => (from, Object::bytes(&bytes)?, ""),
        Heard::Ended { from, why } => (from, Object::none(), why),
    };
    Object::tuple([&Object::text(from.as_bytes())?, &bytes, &Object::text(why.as_bytes())?])
}

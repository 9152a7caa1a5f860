//! Modules whose instances can be made as new: which they are, and what that takes exported from them.
//!
//! What of an instance can change is, by WebAssembly's own definition, its memories, its globals, its tables, and which of
//! its segments are dropped. Here it is one small memory and numbers; one table may be there, but no instruction is there that
//! changes a table or drops a segment. Such a module gets exports for them, by names that the runner knows: [`super::renew`]
//! does the rest.

use wasmparser::{Operator, Parser, Payload, ValType, Validator, WasmFeatures};

/// What an export of ours is called: its kind, or this and a global's number.
pub const MEMORY: &str = "lichen: memory";
pub const GLOBAL: &str = "lichen: global ";
const PREFIX: &str = "lichen: ";

/// The WebAssembly of which all is known that changes an instance. What a later one adds is not made as new until somebody has
/// looked.
const KNOWN: WasmFeatures = WasmFeatures::WASM2
    .union(WasmFeatures::EXTENDED_CONST)
    .union(WasmFeatures::RELAXED_SIMD)
    .union(WasmFeatures::TAIL_CALL);

/// Pages of a memory that is looked through after each run, at most.
const MOST_PAGES: u64 = 64;
/// Globals that are set after each run, at most.
const MOST_GLOBALS: usize = 64;

/// What of a module is exported beside its own.
#[derive(Default)]
struct Found {
    memories: u32,
    globals: Vec<u32>,
    /// The section of exports, from its header on, and how many entries it has from where.
    exports: Option<(std::ops::Range<usize>, u32, usize)>,
}

/// The module with what it takes to make its instances as new exported; None if they cannot be made so, or the module is none.
pub fn expose(code: &[u8]) -> Option<Vec<u8>> {
    let found = look(code)?;
    Validator::new_with_features(KNOWN).validate_all(code).ok()?;
    let (section, count, entries) = found.exports?;
    let more = found.memories + found.globals.len() as u32;
    let mut body = Vec::with_capacity(section.len() + 32 * more as usize);
    put_number(&mut body, count.checked_add(more)?);
    body.extend_from_slice(&code[entries..section.end]);
    if found.memories > 0 {
        put_export(&mut body, MEMORY, 2, 0);
    }
    found.globals.iter().for_each(|global| put_export(&mut body, &format!("{GLOBAL}{global}"), 3, *global));
    let mut exposed = Vec::with_capacity(code.len() + 32 * more as usize + 8);
    exposed.extend_from_slice(&code[..section.start]);
    exposed.push(7);
    put_number(&mut exposed, u32::try_from(body.len()).ok()?);
    exposed.extend_from_slice(&body);
    exposed.extend_from_slice(&code[section.end..]);
    Some(exposed)
}

fn put_export(body: &mut Vec<u8>, name: &str, kind: u8, index: u32) {
    put_number(body, name.len() as u32);
    body.extend_from_slice(name.as_bytes());
    body.push(kind);
    put_number(body, index);
}

/// A number as WebAssembly writes it.
fn put_number(into: &mut Vec<u8>, mut number: u32) {
    while number >= 0x80 {
        into.push(number as u8 | 0x80);
        number >>= 7;
    }
    into.push(number as u8);
}

fn look(code: &[u8]) -> Option<Found> {
    let (mut found, mut end) = (Found::default(), 8);
    for payload in Parser::new(0).parse_all(code) {
        let payload = payload.ok()?;
        // Sections follow each other: a header begins where the section before has ended.
        let header = end;
        end = payload.as_section().map_or(end, |(_, range)| range.end);
        match payload {
            // A start function would run before there is anything to run for.
            Payload::StartSection { .. } | Payload::TagSection(_) => return None,
            Payload::ImportSection(imports) => {
                let functions = |import: wasmparser::Result<wasmparser::Import<'_>>| {
                    matches!(import.ok()?.ty, wasmparser::TypeRef::Func(_)).then_some(())
                };
                imports.into_imports().try_for_each(functions)?;
            }
            Payload::MemorySection(memories) => {
                for memory in memories {
                    let memory = memory.ok()?;
                    if memory.initial > MOST_PAGES || memory.shared || memory.memory64 {
                        return None;
                    }
                    found.memories += 1;
                }
            }
            // The pool has one for each memory.
            Payload::TableSection(tables) if tables.count() > 1 => return None,
            Payload::GlobalSection(globals) => {
                for (number, global) in (0..).zip(globals) {
                    let ty = global.ok()?.ty;
                    if ty.mutable {
                        if matches!(ty.content_type, ValType::Ref(_)) {
                            return None;
                        }
                        found.globals.push(number);
                    }
                }
            }
            Payload::ExportSection(exports) => {
                let (range, count) = (exports.range(), exports.count());
                let entries = range.start + code[range.clone()].iter().position(|byte| byte & 0x80 == 0)? + 1;
                for export in exports {
                    if export.ok()?.name.starts_with(PREFIX) {
                        return None;
                    }
                }
                found.exports = Some((header..range.end, count, entries));
            }
            Payload::CodeSectionEntry(body) => {
                for operator in body.get_operators_reader().ok()? {
                    if changes_more(&operator.ok()?) {
                        return None;
                    }
                }
            }
            _ => {}
        }
    }
    (found.memories <= 1 && found.globals.len() <= MOST_GLOBALS).then_some(found)
}

/// Whether it changes something other than memories and globals.
fn changes_more(operator: &Operator<'_>) -> bool {
    matches!(
        operator,
        Operator::TableSet { .. }
            | Operator::TableGrow { .. }
            | Operator::TableFill { .. }
            | Operator::TableCopy { .. }
            | Operator::TableInit { .. }
            | Operator::ElemDrop { .. }
            | Operator::DataDrop { .. }
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exposed(body: &str) -> Option<Vec<String>> {
        let code = expose(&wat::parse_str(format!("(module {body} (func (export \"_start\")))")).unwrap())?;
        let module = wasmtime::Module::new(&crate::wasm::settings::compiler().unwrap(), code).expect("it is a module");
        Some(module.exports().map(|export| export.name().to_owned()).collect())
    }

    #[test]
    fn what_can_change_is_exported() {
        let names = ["_start", MEMORY, "lichen: global 0", "lichen: global 2"].map(str::to_owned);
        let globals = "(global (mut i32) (i32.const 1)) (global i64 (i64.const 2)) (global (mut f64) (f64.const 3))";
        assert_eq!(exposed(&format!("(memory 1) {globals} (table 3 funcref)")).unwrap(), names);
        assert_eq!(exposed("").unwrap(), ["_start"]);
        // So many that their number takes another byte.
        let many: String = (0..125).map(|n| format!("(func (export \"{n}\"))")).collect();
        assert_eq!(exposed(&format!("(memory 1) (global (mut i32) (i32.const 1)) {many}")).unwrap().len(), 128);
    }

    #[test]
    fn what_can_change_in_other_ways_is_left_alone() {
        for body in [
            "(func $f) (start $f)",
            "(memory 65)",
            "(memory 1) (memory 1)",
            "(table 1 funcref) (table 1 funcref)",
            "(global (mut funcref) (ref.null func))",
            "(memory (export \"lichen: memory\") 1)",
            "(table 1 funcref) (func (table.set (i32.const 0) (ref.null func)))",
            "(table 1 funcref) (func (drop (table.grow (ref.null func) (i32.const 1))))",
            "(table 1 funcref) (func (table.fill (i32.const 0) (ref.null func) (i32.const 1)))",
            "(table 1 funcref) (func (table.copy (i32.const 0) (i32.const 0) (i32.const 1)))",
            "(table 1 funcref) (elem func 0) (func (table.init 0 (i32.const 0) (i32.const 0) (i32.const 1)))",
            "(table 1 funcref) (elem func 0) (func (elem.drop 0))",
            "(memory 1) (data \"x\") (func (data.drop 0))",
            "(memory 1) (func (drop (i32.atomic.load (i32.const 0))))",
        ] {
            assert_eq!(exposed(body), None, "{body}");
        }
        let many = "(global (mut i32) (i32.const 1))".repeat(MOST_GLOBALS + 1);
        assert_eq!(exposed(&many), None);
        assert_eq!(expose(b""), None);
        assert_eq!(expose(b"\0asm\x01\0\0\0"), None, "without exports");
    }

    /// A module changed in some bytes, or cut: what is exposed of it is as good as it was.
    #[test]
    fn whatever_is_there_stays_as_it_was() {
        let engine = crate::wasm::settings::compiler().unwrap();
        let text = "(module (memory 1) (global (mut i32) (i32.const 1)) (func (export \"_start\") (global.set 0 (i32.const 7))))";
        let good = wat::parse_str(text).unwrap();
        let mut next = crate::wasm::dice();
        for _ in 0..5_000 {
            let mut bytes = good.clone();
            for _ in 0..1 + next(3) {
                let at = next(good.len());
                bytes[at] = [0, 1, 0x7f, 0x80, 0xff, next(256) as u8][next(6)];
            }
            bytes.truncate(bytes.len() - next(3) * next(10));
            if let Some(exposed) = expose(&bytes) {
                let valid = |code: &[u8]| wasmtime::Module::validate(&engine, code).is_ok();
                assert_eq!(valid(&exposed), valid(&bytes), "{bytes:?}");
            }
        }
    }
}

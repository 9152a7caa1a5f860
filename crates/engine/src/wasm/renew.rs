//! Instances made as new: what a run has changed is set back, where that takes less than to take the instance down and to
//! make another one.
//!
//! ```text
//!  ended well? ─yes─▶ memory not grown, few pages written? ─yes─▶ pages and globals as in the image ──▶ waits for the next run
//!       │                           ╰─no─▶ taken down, another one made ────────────────────────────────────────▲
//!       ╰─no─▶ taken down
//! ```
//!
//! Of the modules of [`super::expose`] nothing else can change. The kernel says which pages were written: it is asked
//! after each run. The image is of an instance that never ran.

use super::context::Context;
use super::expose::{GLOBAL, MEMORY};
use super::settings::SLOTS;
use crate::Arena;
use os::pagemap::Pagemap;
use std::sync::Arc;
use wasmtime::{Global, Instance, Memory, Module, Store, TypedFunc, Val};

/// Programs whose instances wait for their next runs, at most: each has a place in the pool, and an image.
const MOST: usize = SLOTS as usize / 2;
/// Pages that are set back, at most, and of an image. More are given back to the kernel faster.
const MOST_PAGES: usize = 256;
const PAGE: usize = 4096;
/// Runs of a program before an image is made: code that is asked for once pays for none.
const BEFORE: u32 = 2;

/// An instance, and what of it is asked for.
pub struct Made {
    pub entry: TypedFunc<(), ()>,
    /// The memory that calls name.
    pub linear: Option<Memory>,
    /// Bytes of memory and tables that it begins with.
    pub bytes: u64,
    /// What can change of it, if that is all known.
    state: Option<State>,
}

impl Made {
    pub fn new(entry: TypedFunc<(), ()>, linear: Option<Memory>, bytes: u64, state: Option<State>) -> Self {
        Self { entry, linear, bytes, state }
    }
}

/// What of an instance can change.
pub struct State {
    memory: Option<Memory>,
    globals: Box<[Global]>,
}

/// What that is before the first run.
struct Image {
    /// Bytes of memory, and from where on which of them are not all zeroes: C has its stack before its data.
    len: usize,
    from: usize,
    bytes: Box<[u8]>,
    globals: Box<[Val]>,
}

impl Image {
    /// What was in memory from `at` on.
    fn copy_to(&self, at: usize, part: &mut [u8]) {
        let place = |byte: usize| byte.clamp(at, at + part.len()) - at;
        let (start, end) = (place(self.from), place(self.from + self.bytes.len()));
        part[..start].fill(0);
        part[end..].fill(0);
        if start < end {
            let first = at + start - self.from;
            part[start..end].copy_from_slice(&self.bytes[first..first + end - start]);
        }
    }
}

impl State {
    /// Of an instance of a module of [`super::expose`].
    pub fn of(module: &Module, instance: &Instance, store: &mut Store<Context>) -> Option<Self> {
        let memory = instance.get_memory(&mut *store, MEMORY);
        let ours = module.exports().filter(|export| export.name().starts_with(GLOBAL));
        let globals = ours.map(|export| instance.get_global(&mut *store, export.name())).collect::<Option<_>>()?;
        Some(Self { memory, globals })
    }

    /// None if it is too large to be kept.
    fn image(&self, store: &mut Store<Context>) -> Option<Image> {
        let memory = self.memory.map(|memory| memory.data(&*store)).unwrap_or_default();
        let end = memory.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        let from = memory.iter().position(|byte| *byte != 0).unwrap_or(end);
        if end - from > MOST_PAGES * PAGE {
            return None;
        }
        let (len, bytes) = (memory.len(), memory[from..end].into());
        Some(Image { len, from, bytes, globals: self.globals.iter().map(|global| global.get(&mut *store)).collect() })
    }

    /// Makes it what the image says. False: not all of it, and it must be taken down.
    fn set_back(&self, store: &mut Store<Context>, image: &Image, pagemap: &Pagemap) -> bool {
        let memory = self.memory.map(|memory| memory.data_mut(&mut *store)).unwrap_or_default();
        if memory.len() != image.len {
            return false;
        }
        let Ok(Some(written)) = pagemap.written(memory.as_ptr() as usize, memory.len(), MOST_PAGES) else {
            return false;
        };
        for range in written.ranges() {
            image.copy_to(range.start, &mut memory[range]);
        }
        self.globals.iter().zip(&image.globals).all(|(global, value)| global.set(&mut *store, *value).is_ok())
    }
}

/// Setting back, for all programs of an engine.
pub struct Renewal {
    pagemap: Pagemap,
    /// Shared by those that have an image.
    places: Arc<()>,
}

impl Renewal {
    /// None where the kernel does not say what was written.
    pub fn new() -> Option<Arc<Self>> {
        Some(Arc::new(Self { pagemap: Pagemap::own().ok()?, places: Arc::default() }))
    }

    fn place(&self) -> Option<Arc<()>> {
        (Arc::strong_count(&self.places) <= MOST).then(|| self.places.clone())
    }
}

/// Instances of one program.
pub struct Renewing {
    of: Arc<Renewal>,
    runs: u32,
    /// As long as the program is loaded.
    image: Option<(Image, Arc<()>)>,
    waits: Option<(Store<Context>, Made)>,
}

impl Renewing {
    pub fn new(of: Arc<Renewal>) -> Self {
        Self { of, runs: 0, image: None, waits: None }
    }

    /// The instance that waits.
    pub fn take(&mut self) -> Option<(Store<Context>, Made)> {
        self.waits.take()
    }

    /// The run of this instance has ended well. What it has left goes; the instance stays for the next run if it can be made as new,
    /// and else one does that never ran. `another` makes such a one.
    pub fn keep(
        &mut self,
        (mut store, mut made): (Store<Context>, Made),
        arena: &Arena,
        another: impl Fn() -> Option<(Store<Context>, Made)>,
    ) {
        *store.data_mut() = Context::nobodys(arena);
        self.runs = self.runs.saturating_add(1);
        if self.runs == BEFORE {
            self.image = self.of.place().and_then(|place| {
                let (mut store, new) = another()?;
                Some((new.state?.image(&mut store)?, place))
            });
        }
        let (Some((image, _)), Some(state)) = (&self.image, &made.state) else { return };
        if !state.set_back(&mut store, image, &self.of.pagemap) {
            // First it goes: the other one gets its place in the pool, and what is warm there.
            drop(store);
            match another() {
                Some(new) => (store, made) = new,
                None => return,
            }
        }
        self.waits = Some((store, made));
    }
}

#[cfg(test)]
mod tests {
    use crate::wasm::program::Loaded;
    use crate::wasm::{Wasm, compile};
    use crate::{Arena, Finished, Limits, Program, Run, Stop};
    use std::io::Write;
    use std::time::{Duration, Instant};

    const IMPORTS: &str = r#"
        (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))"#;

    fn wasm() -> Option<Wasm> {
        let wasm = Wasm::new(Arena::new(1 << 20).unwrap()).unwrap();
        if wasm.renewal.is_none() {
            println!("skip: this kernel does not say what was written");
        }
        wasm.renewal.is_some().then_some(wasm)
    }

    fn load(wasm: &Wasm, body: &str) -> Loaded {
        let mut file = tempfile::tempfile().unwrap();
        let code = wat::parse_str(format!("(module {IMPORTS} {body})")).unwrap();
        file.write_all(&compile(&code).unwrap()).unwrap();
        Loaded::new(wasm, &file).unwrap()
    }

    fn run(program: &mut Loaded, memory: u64) -> Finished {
        let stop = Stop::new().unwrap();
        stop.begin();
        let finished = program.run(&Run {
            inputs: &Vec::new(),
            outputs: &[],
            folders: &[],
            arguments: &[],
            environment: &[],
            stdin: None,
            streams: None,
            limits: Limits { memory, ..Limits::default() },
            deadline: Instant::now() + Duration::from_secs(20),
            stop: &stop,
            deterministic: false,
        });
        program.clear();
        finished
    }

    /// What it prints is the answer; whether its instance waits after it.
    fn answer(program: &mut Loaded) -> (Vec<u8>, bool) {
        let finished = run(program, 16 << 20);
        let printed = finished.outcome.unwrap().pop().map(|mut set| set.items.remove(0).data.to_vec());
        (printed.unwrap_or_default(), program.renewing.as_ref().is_some_and(|renewing| renewing.waits.is_some()))
    }

    /// Bytes within its data, beside it, on pages that it has written, and those that it has only read: it prints what it finds, and
    /// changes all. Globals of each kind come into what is printed.
    const COUNTS: &str = r#"
        (memory (export "memory") 3)
        (data (i32.const 0) "\10\00\00\00\08\00\00\00") (data (i32.const 16) "\01\00\00\00\02\00\00\00") (data (i32.const 70000) "x")
        (global $a (mut i32) (i32.const 3)) (global $b (mut i64) (i64.const 4)) (global $c (mut f64) (f64.const 5))
        (global $d (mut v128) (v128.const i32x4 1 2 3 4)) (global $e (mut f32) (f32.const 6))
        (table 2 funcref) (elem (i32.const 0) $one $one)
        (func $one)
        (func $add (param i32) (i32.store (local.get 0) (i32.add (i32.load (local.get 0)) (i32.const 1))))
        (func $sum (result i32) (i32.add (global.get $a) (i32.add (i32.wrap_i64 (global.get $b)) (i32.add
            (i32.trunc_f64_s (global.get $c)) (i32.add (i32.trunc_f32_s (global.get $e)) (i32x4.extract_lane 2 (global.get $d)))))))
        (func $work (param $all i32)
            (i32.store (i32.const 20) (i32.add (call $sum) (i32.add (i32.load (i32.const 70000))
                (i32.add (i32.load (i32.const 100000)) (i32.add (i32.load (i32.const 150000)) (i32.load (i32.const 196604)))))))
            (call $add (i32.const 16))
            (if (local.get $all) (then
                (call $add (i32.const 70000)) (call $add (i32.const 100000)) (call $add (i32.const 150000)) (call $add (i32.const 196604))
                (global.set $a (i32.const 30)) (global.set $b (i64.const 40)) (global.set $c (f64.const 50))
                (global.set $d (v128.const i32x4 9 9 9 9)) (global.set $e (f32.const 60))))
            (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))))"#;

    #[test]
    fn a_run_finds_nothing_that_another_has_left() {
        let Some(wasm) = wasm() else { return };
        let mut program = load(&wasm, &format!("{COUNTS} (func (export \"_start\") (call $work (i32.const 1)))"));
        let (first, waits) = answer(&mut program);
        assert!(first.len() == 8 && !waits, "code that is asked for once pays for no image");
        for round in 1..100 {
            assert_eq!(answer(&mut program), (first.clone(), true), "{round}");
        }
    }

    #[test]
    fn what_cannot_be_set_back_is_taken_down() {
        let Some(wasm) = wasm() else { return };
        let grows = "(i32.store (i32.const 100000) (memory.size)) (drop (memory.grow (i32.const 1)))";
        let writes = "(memory.fill (i32.const 100000) (i32.const 1) (i32.const 1100000))";
        for (end, memory) in [(grows, 3), (writes, 20)] {
            let counts = COUNTS.replace("\"memory\") 3", &format!("\"memory\") {memory}"));
            let body = format!("{counts} (func (export \"_start\") (call $work (i32.const 1)) {end})");
            let mut program = load(&wasm, &body);
            let first = answer(&mut program).0;
            (0..5).for_each(|_| assert_eq!(answer(&mut program), (first.clone(), true), "{end}"));
        }
        for end in ["unreachable", "(call $exit (i32.const 0))"] {
            let mut program = load(&wasm, &format!("(memory (export \"memory\") 1) (func (export \"_start\") {end})"));
            for _ in 0..5 {
                assert_eq!(run(&mut program, 1 << 20).outcome.is_ok(), end != "unreachable");
                assert!(program.renewing.as_ref().is_some_and(|renewing| renewing.waits.is_none()));
            }
        }
    }

    #[test]
    fn an_image_is_whatever_part_is_asked_for() {
        let image = super::Image { len: 100, from: 10, bytes: (1..=20).collect(), globals: Box::new([]) };
        let whole: Vec<u8> = [0; 10].into_iter().chain(1..=20).chain([0; 70]).collect();
        for (start, end) in (0..=100).flat_map(|start| (start..=100).map(move |end| (start, end))) {
            let mut part = vec![0xff; end - start];
            image.copy_to(start, &mut part);
            assert_eq!(part, whole[start..end], "{start} {end}");
        }
    }

    #[test]
    fn only_what_is_little_data_has_an_image() {
        let Some(wasm) = wasm() else { return };
        // As C's: a stack of 1 MiB before its data.
        for (place, waits) in [(1_100_000, true), (100, false)] {
            let data = format!("(data (i32.const {place}) \"x\") (data (i32.const 1200000) \"x\")");
            let body = format!("(memory (export \"memory\") 20) {data} (func (export \"_start\"))");
            let mut program = load(&wasm, &body);
            (0..4).for_each(|_| drop(answer(&mut program)));
            assert_eq!(answer(&mut program).1, waits, "{place}");
        }
    }

    #[test]
    fn an_instance_counts_as_memory_however_it_was_made() {
        let Some(wasm) = wasm() else { return };
        let mut program = load(&wasm, r#"(memory (export "memory") 3) (func (export "_start"))"#);
        for _ in 0..4 {
            assert_eq!(run(&mut program, 1 << 20).memory_peak, 3 << 16);
            let refused = run(&mut program, 2 << 16).outcome;
            assert!(matches!(refused, Err(crate::RunError::OutOfMemory { .. })), "{refused:?}");
        }
    }

    #[test]
    fn no_more_wait_than_may() {
        let Some(wasm) = wasm() else { return };
        let body = format!("{COUNTS} (func (export \"_start\") (call $work (i32.const 0)))");
        let mut programs: Vec<Loaded> = (0..=super::MOST + 8).map(|_| load(&wasm, &body)).collect();
        for _ in 0..3 {
            let waiting = programs.iter_mut().filter_map(|program| answer(program).1.then_some(())).count();
            assert!(waiting == 0 || waiting == super::MOST, "{waiting}");
        }
        programs.truncate(super::MOST / 2);
        let mut another = load(&wasm, &body);
        (0..3).for_each(|_| drop(answer(&mut another)));
        assert!(answer(&mut another).1, "a place is free again");
    }
}

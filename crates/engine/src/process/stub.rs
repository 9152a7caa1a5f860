//! The code that zygotes and blanks run: two pages, position-independent, without a stack.
//!
//! ```text
//!  CONTROL     head: how many blanks are wanted, and for which slots        shared with the engine
//!              one page per slot: told to go, process id, the system calls that make the guest's memory
//!  STUB        zygote: unmap all else, clone blanks    blank: wait, make memory, unmap CONTROL and STUB
//!              ─── its last instruction is that system call; behind it is ───
//!  TRAMPOLINE  registers to zero, jump to the guest · what is called at a fault: write the report, end
//!  ALTSTACK    for that
//! ```
//!
//! The system calls of a run are a list that the engine writes: the stub knows nothing of what a guest is.

use crate::native::layout::{PLATFORM, STACK_TOP};

pub const CONTROL: u64 = PLATFORM;
pub const STUB: u64 = PLATFORM + 0x2_0000;
pub const TRAMPOLINE: u64 = STUB + 0x1000;
pub const STUB_LEN: usize = 0x2000;
pub const ALTSTACK: u64 = STUB + STUB_LEN as u64;
pub const ALTSTACK_LEN: usize = 0x8000;
pub const PLATFORM_END: u64 = ALTSTACK + ALTSTACK_LEN as u64;
/// Where a fault is handled, and what the kernel wants to know to come back from there, which it never does.
pub const HANDLER: u64 = TRAMPOLINE + 0x100;
pub const RESTORER: u64 = TRAMPOLINE + 0x200;
/// Where the report is written: the page at the stack's top.
pub const REPORT: u64 = STACK_TOP;

/// Blanks, at most.
pub const SLOTS: usize = 16;
pub const CONTROL_LEN: usize = 0x1000 * (1 + SLOTS);
/// Places in the queue of wanted slots.
pub const QUEUE: u32 = 64;
/// System calls that a blank makes, at most.
pub const CALLS: usize = 62;

/// Exit codes: the report says more; a system call failed; the engine is gone.
pub const REPORTED: i32 = 255;
pub const FAILED: i32 = 254;
const ORPHAN: i32 = 253;

/// Offsets in the control's first page.
pub mod head {
    pub const WANTED: usize = 0;
    pub const ZYGOTE: usize = 4;
    pub const ENGINE: usize = 8;
    /// Not zero as long as the process lives that the zygote comes from.
    pub const FIRST: usize = 12;
    pub const QUEUE: usize = 64;
}

/// Offsets in a slot's page.
pub mod slot {
    pub const GO: usize = 0;
    pub const PID: usize = 4;
    pub const FAILED: usize = 8;
    pub const COUNT: usize = 16;
    pub const ENTRY: usize = 24;
    pub const STACK: usize = 32;
    pub const CALLS: usize = 64;
    /// Bytes of a call: its number, six arguments, what it answers.
    pub const CALL: usize = 64;
}

/// Offsets in the report.
pub mod report {
    pub const SIGNAL: usize = 0;
    pub const ADDRESS: usize = 8;
    pub const CALL: usize = 16;
    pub const ARCH: usize = 20;
    pub const ERROR: usize = 24;
    pub const TRAP: usize = 32;
    pub const LEN: usize = 64;
}

std::arch::global_asm!(
    ".pushsection .rodata.lichen_stub,\"a\",@progbits",
    ".balign 64",
    ".hidden lichen_stub_begin",
    ".globl lichen_stub_begin",
    "lichen_stub_begin:",
    // The process that was forked from the engine shares its memory with the zygote, which by that has lost what the C
    // library registers per thread with the kernel; then it ends. The zygote waits for that, since the kernel ends whoever
    // loses what it has registered.
    "movabs r15, {control}",
    "mov dword ptr [r15 + {head_first}], 1",
    "mov eax, 218", // set_tid_address: zero, and woken, when it has ended
    "lea rdi, [r15 + {head_first}]",
    "syscall",
    "mov eax, 56",
    "mov edi, 0x8100", // CLONE_PARENT, CLONE_VM; no signal at the end
    "xor esi, esi",
    "xor edx, edx",
    "xor r10d, r10d",
    "xor r8d, r8d",
    "syscall",
    "test eax, eax",
    "jz 2f",
    "mov dword ptr [r15 + {head_zygote}], eax",
    "xor edi, edi",
    "mov eax, 231",
    "syscall",
    "ud2",
    "2:",
    "mov eax, dword ptr [r15 + {head_first}]",
    "test eax, eax",
    "jz 20f",
    "lea rdi, [r15 + {head_first}]",
    "xor esi, esi",
    "mov edx, eax",
    "xor r10d, r10d",
    "mov eax, 202", // futex(first, FUTEX_WAIT, 1)
    "syscall",
    "jmp 2b",
    "20:",
    "mov eax, 157", // prctl(PR_SET_PDEATHSIG, SIGKILL)
    "mov edi, 1",
    "mov esi, 9",
    "syscall",
    "mov eax, 110", // getppid
    "syscall",
    "cmp eax, dword ptr [r15 + {head_engine}]",
    "jne 90f",
    "mov eax, 158", // arch_prctl(ARCH_SET_FS, 0)
    "mov edi, 0x1002",
    "xor esi, esi",
    "syscall",
    "mov eax, 158", // arch_prctl(ARCH_SET_GS, 0)
    "mov edi, 0x1001",
    "xor esi, esi",
    "syscall",
    "mov eax, 11", // munmap: below, and above
    "xor edi, edi",
    "movabs rsi, {control}",
    "syscall",
    "test rax, rax",
    "jnz 90f",
    "mov eax, 11",
    "movabs rdi, {end}",
    "movabs rsi, {above}",
    "syscall",
    "test rax, rax",
    "jnz 90f",
    "mov eax, 131", // sigaltstack: one that shares memory has none, not even its parent's
    "movabs rdi, {altstack}",
    "xor esi, esi",
    "syscall",
    "test rax, rax",
    "jnz 90f",
    // No vector register keeps what the engine had there.
    "movabs rcx, {fresh}",
    "mov eax, 0xe7",
    "xor edx, edx",
    "xrstor64 [rcx]",
    "xor ebx, ebx",
    // One blank for each that is wanted.
    "3:",
    "mov eax, dword ptr [r15 + {head_wanted}]",
    "cmp eax, ebx",
    "jne 4f",
    "mov eax, 202", // futex(wanted, FUTEX_WAIT)
    "lea rdi, [r15 + {head_wanted}]",
    "xor esi, esi",
    "mov edx, ebx",
    "xor r10d, r10d",
    "syscall",
    "jmp 3b",
    "4:",
    "mov ecx, ebx",
    "and ecx, {queue_mask}",
    "mov ecx, dword ptr [r15 + rcx * 4 + {head_queue}]",
    "shl rcx, 12",
    "lea r14, [r15 + rcx + 4096]",
    "mov eax, 56", // clone(CLONE_PARENT)
    "mov edi, 0x8000",
    "xor esi, esi",
    "xor edx, edx",
    "xor r10d, r10d",
    "xor r8d, r8d",
    "syscall",
    "test eax, eax",
    "jz 5f",
    "mov dword ptr [r14 + {slot_pid}], eax",
    "mov eax, 202", // futex(pid, FUTEX_WAKE, 1)
    "lea rdi, [r14 + {slot_pid}]",
    "mov esi, 1",
    "mov edx, 1",
    "syscall",
    "inc ebx",
    "jmp 3b",
    // A blank.
    "5:",
    "mov eax, 157",
    "mov edi, 1",
    "mov esi, 9",
    "syscall",
    "mov eax, 110",
    "syscall",
    "cmp eax, dword ptr [r15 + {head_engine}]",
    "jne 90f",
    "6:",
    "mov eax, dword ptr [r14 + {slot_go}]",
    "test eax, eax",
    "jnz 7f",
    "mov eax, 202", // futex(go, FUTEX_WAIT, 0)
    "lea rdi, [r14 + {slot_go}]",
    "xor esi, esi",
    "xor edx, edx",
    "xor r10d, r10d",
    "syscall",
    "jmp 6b",
    "7:",
    "lea r12, [r14 + {slot_calls}]",
    "mov ebx, dword ptr [r14 + {slot_count}]",
    "8:",
    "test ebx, ebx",
    "jz 9f",
    "mov rax, qword ptr [r12]",
    "mov rdi, qword ptr [r12 + 8]",
    "mov rsi, qword ptr [r12 + 16]",
    "mov rdx, qword ptr [r12 + 24]",
    "mov r10, qword ptr [r12 + 32]",
    "mov r8, qword ptr [r12 + 40]",
    "mov r9, qword ptr [r12 + 48]",
    "syscall",
    "cmp rax, qword ptr [r12 + 56]",
    "jne 91f",
    "add r12, {call_len}",
    "dec ebx",
    "jmp 8b",
    "9:",
    "mov r12, qword ptr [r14 + {slot_entry}]",
    "mov r13, qword ptr [r14 + {slot_stack}]",
    "mov eax, 11",
    "movabs rdi, {control}",
    "mov esi, {own_len}",
    "jmp 92f",
    "90:",
    "mov edi, {orphan}",
    "mov eax, 231",
    "syscall",
    "ud2",
    "91:",
    "mov qword ptr [r14 + {slot_failed}], rax",
    "mov edi, {failed}",
    "mov eax, 231",
    "syscall",
    "ud2",
    // The end of the stub's page, which this call unmaps.
    ".org lichen_stub_begin + 0xffe, 0xcc",
    "92:",
    "syscall",
    // The trampoline's page.
    "mov rsp, r13",
    "push r12",
    "xor eax, eax",
    "xor ecx, ecx",
    "xor edx, edx",
    "xor ebx, ebx",
    "xor esi, esi",
    "xor edi, edi",
    "xor ebp, ebp",
    "xor r8d, r8d",
    "xor r9d, r9d",
    "xor r10d, r10d",
    "xor r11d, r11d",
    "xor r12d, r12d",
    "xor r13d, r13d",
    "xor r14d, r14d",
    "xor r15d, r15d",
    "ret",
    // A fault: signal, siginfo, context. The guest's registers mean nothing here.
    ".org lichen_stub_begin + 0x1100, 0xcc",
    "movabs rbx, {report}",
    "mov rax, qword ptr [rsi + 16]",
    "mov qword ptr [rbx + {report_address}], rax",
    "mov eax, dword ptr [rsi + 24]",
    "mov dword ptr [rbx + {report_call}], eax",
    "mov eax, dword ptr [rsi + 28]",
    "mov dword ptr [rbx + {report_arch}], eax",
    "mov rax, qword ptr [rdx + 192]",
    "mov qword ptr [rbx + {report_error}], rax",
    "mov rax, qword ptr [rdx + 200]",
    "mov qword ptr [rbx + {report_trap}], rax",
    "mov dword ptr [rbx + {report_signal}], edi",
    "mov edi, {reported}",
    "mov eax, 231",
    "syscall",
    ".org lichen_stub_begin + 0x1200, 0xcc",
    "ud2",
    // What vector registers hold in a new process: nothing, and no exception unmasked.
    ".org lichen_stub_begin + 0x1800, 0xcc",
    ".fill 24, 1, 0",
    ".long 0x1f80",
    ".fill 548, 1, 0",
    ".org lichen_stub_begin + 0x1b00, 0xcc",
    ".quad {altstack_begin}",
    ".quad 0",
    ".quad {altstack_len}",
    ".org lichen_stub_begin + 0x2000, 0",
    ".popsection",
    control = const CONTROL,
    end = const PLATFORM_END,
    above = const 0x7fff_ffff_f000 - PLATFORM_END,
    fresh = const TRAMPOLINE + 0x800,
    altstack = const TRAMPOLINE + 0xb00,
    altstack_begin = const ALTSTACK,
    altstack_len = const ALTSTACK_LEN,
    queue_mask = const QUEUE - 1,
    own_len = const STUB + 0x1000 - CONTROL,
    report = const REPORT,
    head_wanted = const head::WANTED,
    head_zygote = const head::ZYGOTE,
    head_first = const head::FIRST,
    head_engine = const head::ENGINE,
    head_queue = const head::QUEUE,
    slot_go = const slot::GO,
    slot_pid = const slot::PID,
    slot_failed = const slot::FAILED,
    slot_count = const slot::COUNT,
    slot_entry = const slot::ENTRY,
    slot_stack = const slot::STACK,
    slot_calls = const slot::CALLS,
    call_len = const slot::CALL,
    report_signal = const report::SIGNAL,
    report_address = const report::ADDRESS,
    report_call = const report::CALL,
    report_arch = const report::ARCH,
    report_error = const report::ERROR,
    report_trap = const report::TRAP,
    reported = const REPORTED,
    failed = const FAILED,
    orphan = const ORPHAN,
);

const _: () = assert!(CONTROL_LEN <= (STUB - CONTROL) as usize && slot::CALLS + CALLS * slot::CALL <= 4096);
const _: () = assert!(SLOTS < QUEUE as usize && QUEUE.is_power_of_two());

/// The two pages.
pub fn code() -> &'static [u8] {
    unsafe extern "C" {
        static lichen_stub_begin: [u8; STUB_LEN];
    }
    // SAFETY: defined above, with exactly this length; nobody writes read-only data.
    unsafe { &lichen_stub_begin }
}

//! The count of ticks of the processor: which of two messages was sent first, for less than asking the kernel for the time.

/// Of no unit in particular; 0 where there is none that is cheap.
#[cfg(target_arch = "x86_64")]
#[inline]
pub fn ticks() -> u64 {
    // SAFETY: all processors of this kind have this instruction.
    unsafe { std::arch::x86_64::_rdtsc() }
}

/// As above.
#[cfg(not(target_arch = "x86_64"))]
#[inline]
pub fn ticks() -> u64 {
    0
}

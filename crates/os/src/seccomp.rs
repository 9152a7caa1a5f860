//! System call filters.
//!
//! A [`Policy`] sorts system calls into three: allowed; refused with "operation not permitted"; and, by default, unknown,
//! answered with "function not implemented", so that a library written for a newer kernel falls back to what it did
//! before.

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
};
use std::collections::BTreeMap;
use thiserror::Error;

/// Why a filter could not be made or installed.
#[derive(Debug, Error)]
pub enum FilterError {
    #[error("the filter cannot be expressed")]
    Compile(#[source] seccompiler::BackendError),
    #[error("the kernel does not take the filter")]
    Install(#[source] seccompiler::Error),
}

/// A condition on one argument, all 64 bits of it unless said otherwise.
#[derive(Clone, Copy, Debug)]
pub enum Argument {
    /// Has one of these bits set. Argument number, a single bit.
    HasBit(u8, u64),
    /// Its lower 32 bits differ from all of these.
    NoneOf(u8, &'static [u64]),
    /// Its lower 32 bits are this.
    Is(u8, u64),
}

/// Which system calls may be made.
#[derive(Clone, Debug)]
pub struct Policy {
    /// In lists, so that one can be the machine's own.
    pub allowed: &'static [&'static [i64]],
    pub refused: &'static [&'static [i64]],
    /// Allowed calls that are refused when the condition holds.
    pub refused_when: &'static [(i64, Argument)],
}

/// A policy, compiled.
#[derive(Clone, Debug)]
pub struct Filter(Vec<BpfProgram>);

impl Policy {
    /// Compiles the policy for this machine.
    pub fn compile(&self) -> Result<Filter, FilterError> {
        // Two filters, as each knows one action besides its default; no call is refused by both.
        let each = |lists: &[&[i64]]| lists.concat().into_iter().map(|call| (call, Vec::new()));
        let known: BTreeMap<i64, Vec<SeccompRule>> = each(self.allowed).chain(each(self.refused)).collect();
        let unknown = program(known, SeccompAction::Errno(libc::ENOSYS as u32), SeccompAction::Allow)?;
        let mut refused: BTreeMap<i64, Vec<SeccompRule>> = each(self.refused).collect();
        for &(call, argument) in self.refused_when {
            refused.entry(call).or_default().push(rule(argument)?);
        }
        let refused = program(refused, SeccompAction::Allow, SeccompAction::Errno(libc::EPERM as u32))?;
        // The one that may not allow the installing of filters comes last.
        Ok(Filter(vec![refused, unknown]))
    }
}

fn rule(argument: Argument) -> Result<SeccompRule, FilterError> {
    let condition =
        |index, length, op, value| SeccompCondition::new(index, length, op, value).map_err(FilterError::Compile);
    let conditions = match argument {
        Argument::HasBit(index, bit) => {
            vec![condition(index, SeccompCmpArgLen::Qword, SeccompCmpOp::MaskedEq(bit), bit)?]
        }
        Argument::Is(index, value) => vec![condition(index, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value)?],
        Argument::NoneOf(index, values) => values
            .iter()
            .map(|&value| condition(index, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, value))
            .collect::<Result<_, _>>()?,
    };
    SeccompRule::new(conditions).map_err(FilterError::Compile)
}

fn program(
    rules: BTreeMap<i64, Vec<SeccompRule>>,
    otherwise: SeccompAction,
    matched: SeccompAction,
) -> Result<BpfProgram, FilterError> {
    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(FilterError::Compile)?;
    let filter = SeccompFilter::new(rules, otherwise, matched, arch).map_err(FilterError::Compile)?;
    filter.try_into().map_err(FilterError::Compile)
}

impl Filter {
    /// Installs the filter for the calling thread and all that it will ever start. It cannot be taken back. The thread
    /// must have given up gaining privileges.
    pub fn install(&self) -> Result<(), FilterError> {
        self.0.iter().try_for_each(|program| seccompiler::apply_filter(program).map_err(FilterError::Install))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::{self, End, Fork};

    const POLICY: Policy = Policy {
        allowed: &[&[libc::SYS_exit_group, libc::SYS_getpid], &[libc::SYS_socket, libc::SYS_clone]],
        refused: &[&[libc::SYS_getuid]],
        refused_when: &[
            (libc::SYS_clone, Argument::HasBit(0, libc::CLONE_NEWUSER as u64)),
            (libc::SYS_socket, Argument::NoneOf(0, &[1, 2])),
        ],
    };

    fn errno(result: i64) -> i32 {
        if result < 0 { std::io::Error::last_os_error().raw_os_error().unwrap_or(0) } else { 0 }
    }

    #[test]
    fn each_call_gets_its_own_answer() {
        let filter = POLICY.compile().unwrap();
        // SAFETY: the child makes system calls and exits; it takes no lock that another thread could hold.
        let Fork::Parent(child) = unsafe { process::fork_into(None) }.unwrap() else {
            let ok = process::no_new_privileges().is_ok() && filter.install().is_ok();
            // SAFETY: system calls without pointers.
            let answers = unsafe {
                [
                    errno(libc::syscall(libc::SYS_getpid)),
                    errno(libc::syscall(libc::SYS_getuid)),
                    errno(libc::syscall(libc::SYS_getppid)),
                    errno(libc::syscall(libc::SYS_socket, 40, 1, 0)),
                    errno(libc::syscall(libc::SYS_clone, libc::CLONE_NEWUSER | libc::SIGCHLD, 0, 0, 0, 0)),
                ]
            };
            let expected = [0, libc::EPERM, libc::ENOSYS, libc::EPERM, libc::EPERM];
            process::exit_now(i32::from(!(ok && answers == expected)));
        };
        assert_eq!(process::wait(child).unwrap(), End::Exit(0));
    }
}

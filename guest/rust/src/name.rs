//! Names of items, and how keys are written behind them where items are files.

#[cfg(any(target_os = "wasi", test))]
use alloc::{format, string::String};

const LEN_MAX: usize = 255;

pub fn is_good(name: &str) -> bool {
    let len = (1..=LEN_MAX).contains(&name.len());
    len && name != "." && name != ".." && !name.contains(['/', '\0'])
}

/// `NAME@KEY`: what is before, and the key; 0 where there is none.
#[cfg(any(target_os = "wasi", test))]
pub fn split(file: &str) -> (&str, u64) {
    let Some((name, digits)) = file.rsplit_once('@') else { return (file, 0) };
    let all_digits = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    match digits.parse() {
        Ok(key) if all_digits && !name.is_empty() => (name, key),
        _ => (file, 0),
    }
}

/// The file's name for an item. One whose own name looks as if it had a key gets its key written even if that is 0.
#[cfg(any(target_os = "wasi", test))]
pub fn join(name: &str, key: u64) -> String {
    if key == 0 && split(name).0.len() == name.len() { String::from(name) } else { format!("{name}@{key}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_back() {
        for (name, key) in [("a", 0), ("a", 7), ("a@7", 0), ("a@", 1), ("@1", 0), ("a@b", u64::MAX), ("a@1@2", 3)] {
            assert_eq!(split(&join(name, key)), (name, key), "{name} {key}");
        }
        assert_eq!(split("a@18446744073709551616"), ("a@18446744073709551616", 0));
        assert_eq!(split("a@+1"), ("a@+1", 0));
    }

    #[test]
    fn names() {
        assert!(is_good("a b") && is_good("...") && is_good(&"n".repeat(255)));
        for bad in ["", ".", "..", "a/b", "a\0", &"n".repeat(256)] {
            assert!(!is_good(bad), "{bad:?}");
        }
    }
}

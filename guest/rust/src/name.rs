//! Names of items, and the paths they have where items are files: a key behind the name, `%2F` a folder.

#[cfg(any(target_os = "wasi", test))]
use alloc::{borrow::Cow, format, string::String};

const LEN_MAX: usize = 255;

pub fn is_good(name: &str) -> bool {
    let len = (1..=LEN_MAX).contains(&name.len());
    len && name != "." && name != ".." && !name.contains(['/', '\0'])
}

/// `PATH@KEY`: what is before, and the key; 0 where there is none.
#[cfg(any(target_os = "wasi", test))]
fn split(path: &str) -> (&str, u64) {
    let Some((name, digits)) = path.rsplit_once('@') else { return (path, 0) };
    let all_digits = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    match digits.parse() {
        Ok(key) if all_digits && !name.is_empty() && !name.ends_with('/') => (name, key),
        _ => (path, 0),
    }
}

/// The name and the key of the item whose file has this path below its set's folder.
#[cfg(any(target_os = "wasi", test))]
pub fn of_path(path: &str) -> (Cow<'_, str>, u64) {
    let (path, key) = split(path);
    if !path.contains(['/', '%']) {
        return (Cow::Borrowed(path), key);
    }
    (path.replace("%25", "%2525").replace("%2F", "%252F").replace('/', "%2F").into(), key)
}

/// The path of an item's file. A name that looks as if it had a key gets its key written even if that is 0. `None`: a
/// part of it is no name of a file.
#[cfg(any(target_os = "wasi", test))]
pub fn path(name: &str, key: u64) -> Option<String> {
    let path = name.replace("%2F", "/").replace("%25", "%");
    let written = key != 0 || split(name).0.len() != name.len();
    let good = path.split('/').all(is_good);
    good.then(|| if written { format!("{path}@{key}") } else { path })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_back() {
        for (name, key) in [("a", 0), ("a", 7), ("a@7", 0), ("a@", 1), ("@1", 0), ("a@b", u64::MAX), ("a@1@2", 3)] {
            assert_eq!(of_path(&path(name, key).unwrap()), (name.into(), key), "{name} {key}");
        }
        assert_eq!(split("a@18446744073709551616"), ("a@18446744073709551616", 0));
        assert_eq!(split("a@+1"), ("a@+1", 0));
    }

    #[test]
    fn folders_are_part_of_a_name() {
        assert_eq!(path("a%2Fb%252F%2541", 7).unwrap(), "a/b%2F%41@7");
        for name in ["a%2Fb", "a%252Fb", "100%", "%2525", "a%2Fb@7"] {
            assert_eq!(of_path(&path(name, 3).unwrap()), (name.into(), 3), "{name}");
        }
        for bad in ["..%2Fa", "a%2F%2Fb", "%2Fa", "a%2F.", "a%2F"] {
            assert_eq!(path(bad, 0), None, "{bad}");
        }
    }

    #[test]
    fn names() {
        assert!(is_good("a b") && is_good("...") && is_good(&"n".repeat(255)));
        for bad in ["", ".", "..", "a/b", "a\0", &"n".repeat(256)] {
            assert!(!is_good(bad), "{bad:?}");
        }
    }
}

//! Which names sets and items may have: those that a file in a folder may have, since that is how functions see them.

/// Bytes of a name, at most.
pub const LONGEST: usize = 255;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("a name is empty: give it at least one character")]
    Empty,
    #[error("a name has {0} bytes, and may have {LONGEST}")]
    Long(usize),
    #[error("a name has '/' or a NUL in it: it becomes the name of a file")]
    Character,
    #[error("a name is '.' or '..': these mean folders")]
    Folder,
}

/// Whether a set or an item may be called `name`.
pub fn check(name: &str) -> Result<(), NameError> {
    match name {
        "" => Err(NameError::Empty),
        "." | ".." => Err(NameError::Folder),
        _ if name.len() > LONGEST => Err(NameError::Long(name.len())),
        _ if name.bytes().any(|byte| matches!(byte, b'/' | 0)) => Err(NameError::Character),
        _ => Ok(()),
    }
}

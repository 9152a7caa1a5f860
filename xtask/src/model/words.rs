//! The order in which AWS names the words of an enumeration: that of a Java `HashSet`, which is by the words' hashes.

/// The fewest places of a set, and how full it gets before it has twice as many.
const PLACES: usize = 16;
const FULL: f64 = 0.75;

/// Words in the order of a set that was made of all of them.
pub fn as_java_has_them(mut words: Vec<&str>) -> Vec<&str> {
    let wanted = (words.len() as f64 / FULL) as usize + 1;
    let places = wanted.max(PLACES).next_power_of_two();
    words.sort_by_key(|word| place(word) as usize & (places - 1));
    words
}

/// `String.hashCode`, as `HashMap` spreads it.
fn place(word: &str) -> u32 {
    let hash = word.encode_utf16().fold(0u32, |hash, unit| hash.wrapping_mul(31).wrapping_add(unit.into()));
    hash ^ hash >> 16
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As recorded from AWS.
    #[test]
    fn words_stand_as_aws_has_them() {
        assert_eq!(as_java_has_them(vec!["Allow", "Terminate"]), ["Terminate", "Allow"]);
        assert_eq!(as_java_has_them(vec!["x86_64", "arm64"]), ["x86_64", "arm64"]);
        assert_eq!(as_java_has_them(vec!["None", "PublishedVersions"]), ["PublishedVersions", "None"]);
        // More than fit into the fewest places.
        let runtimes = "nodejs20.x nodejs22.x nodejs24.x python3.9 python3.10 python3.11 python3.12 python3.13 python3.14 \
            java11 java17 java21 java25 java8.al2 dotnet8 ruby3.2 ruby3.3 ruby3.4 provided.al2 provided.al2023 a b c d e f";
        let front = "nodejs20.x python3.14 provided.al2023 python3.12 python3.13 nodejs24.x nodejs22.x java25 python3.10 \
            python3.11 java21 ruby3.3 ruby3.4 ruby3.2 python3.9";
        let found = as_java_has_them(runtimes.split_whitespace().collect());
        let found: Vec<&str> = found.into_iter().filter(|word| word.len() > 1).collect();
        assert_eq!(found[..15], front.split_whitespace().collect::<Vec<_>>());
    }
}

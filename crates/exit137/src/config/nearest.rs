//! The known word that a misspelt one was meant to be.

/// The nearest of `known` to `word`, if it is near enough to be what was meant.
pub(crate) fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    // A third of the letters wrong is another word.
    let far = (word.chars().count() / 3).max(2);
    let ranked = known.iter().map(|&other| (distance(word, other), other));
    ranked.filter(|(distance, _)| *distance <= far).min().map(|(_, other)| other)
}

/// How many letters must be put in, taken out, changed, or swapped with their neighbour.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    rows[0] = (0..=b.len()).collect();
    for i in 1..=a.len() {
        rows[i][0] = i;
        for j in 1..=b.len() {
            let changed = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = changed.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = least;
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_wrong_are_counted() {
        for (a, b, expected) in
            [("spans", "spans", 0), ("budegt", "budget", 1), ("", "abc", 3), ("ab", "cd", 2)]
        {
            assert_eq!(distance(a, b), expected, "{a} {b}");
        }
    }

    #[test]
    fn another_word_is_not_suggested() {
        assert_eq!(nearest("listen_addr", &["listen", "otlp"]), None);
        assert_eq!(nearest("lisen", &["listen", "otlp"]), Some("listen"));
    }
}

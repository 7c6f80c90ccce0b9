//! Kubernetes quantities (`208Mi`, `1.5G`, `129e6`, `100m`) as whole bytes.

/// The text is not a quantity that memory can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected a quantity of memory such as `208Mi`, `1.5G` or `134217728`")]
pub struct NotAQuantity;

/// What the API server makes of anything larger.
const QUANTITY_MAX: u64 = i64::MAX as u64;

/// Decimals that are counted exactly. Any beyond only matter as "a little more", for rounding up.
const DECIMALS_MAX: u32 = 18;

const DECIMALS_SCALE: u128 = 10u128.pow(DECIMALS_MAX);

/// Reads a quantity as bytes. Parts of a byte round up and too large values saturate, as in the API server; it
/// also refuses negative memory.
pub fn parse_bytes(text: &str) -> Result<u64, NotAQuantity> {
    let text = text.strip_prefix('+').unwrap_or(text);
    let number_len = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(number_len);
    let (whole, decimals) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && decimals.is_empty()) || decimals.contains('.') {
        return Err(NotAQuantity);
    }
    let (multiplier, divisor) = scale(suffix)?;

    let whole = whole.trim_start_matches('0');
    if whole.len() > 20 && divisor == 1 {
        return Ok(QUANTITY_MAX);
    }
    // More digits than this before a divisor (at most 10^20) saturate as well.
    let Ok(whole) = (if whole.is_empty() { Ok(0) } else { whole.parse::<u128>() }) else {
        return Ok(QUANTITY_MAX);
    };
    let exact = decimals.len().min(DECIMALS_MAX as usize);
    let (counted, rest) = decimals.split_at(exact);
    let mut fraction = counted.bytes().fold(0u128, |sum, digit| sum * 10 + u128::from(digit - b'0'));
    fraction *= 10u128.pow(DECIMALS_MAX - exact as u32);
    if rest.bytes().any(|digit| digit != b'0') {
        fraction += 1;
    }
    Ok(scaled(whole, fraction, multiplier, divisor))
}

/// `(whole + fraction / DECIMALS_SCALE) * multiplier / divisor`, rounded up; one of the last two is 1.
fn scaled(whole: u128, fraction: u128, multiplier: u128, divisor: u128) -> u64 {
    let up = |value: u128, remainder: bool| value.saturating_add(u128::from(remainder));
    let bytes = if divisor > 1 {
        up(whole / divisor, !whole.is_multiple_of(divisor) || fraction > 0)
    } else {
        // Both factors of the fraction's product are at most 10^20.
        let fraction = fraction.saturating_mul(multiplier).div_ceil(DECIMALS_SCALE);
        whole.saturating_mul(multiplier).saturating_add(fraction)
    };
    u64::try_from(bytes).unwrap_or(QUANTITY_MAX).min(QUANTITY_MAX)
}

/// Multiplier and divisor of a suffix.
fn scale(suffix: &str) -> Result<(u128, u128), NotAQuantity> {
    Ok(match suffix {
        "" => (1, 1),
        "n" => (1, 10u128.pow(9)),
        "u" => (1, 10u128.pow(6)),
        "m" => (1, 1000),
        "k" => (1000, 1),
        "M" => (10u128.pow(6), 1),
        "G" => (10u128.pow(9), 1),
        "T" => (10u128.pow(12), 1),
        "P" => (10u128.pow(15), 1),
        "E" => (10u128.pow(18), 1),
        "Ki" => (1 << 10, 1),
        "Mi" => (1 << 20, 1),
        "Gi" => (1 << 30, 1),
        "Ti" => (1 << 40, 1),
        "Pi" => (1 << 50, 1),
        "Ei" => (1 << 60, 1),
        _ => {
            let exponent = suffix.strip_prefix(['e', 'E']).ok_or(NotAQuantity)?;
            let (negative, digits) = match exponent.strip_prefix('-') {
                Some(digits) => (true, digits),
                None => (false, exponent.strip_prefix('+').unwrap_or(exponent)),
            };
            if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
                return Err(NotAQuantity);
            }
            // Past 20 every value is either saturated, or a part of one byte.
            let power = 10u128.pow(digits.parse().map_or(20, |exponent: u32| exponent.min(20)));
            if negative { (1, power) } else { (power, 1) }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::{QUANTITY_MAX, parse_bytes};
    use proptest::prelude::*;

    #[test]
    fn quantities_are_read_as_the_api_server_reads_them() {
        let cases = [
            ("0", 0),
            ("128974848", 128_974_848),
            ("128974848000m", 128_974_848),
            ("129e6", 129_000_000),
            ("129E6", 129_000_000),
            ("1.29e+2", 129),
            ("129M", 129_000_000),
            ("123Mi", 128_974_848),
            ("208Mi", 218_103_808),
            ("1Ki", 1024),
            ("1k", 1000),
            ("1.5Gi", 1_610_612_736),
            ("0.5G", 500_000_000),
            (".5Gi", 536_870_912),
            ("1.", 1),
            ("+1Mi", 1_048_576),
            ("0064Mi", 67_108_864),
            ("23Gi", 24_696_061_952),
            ("19754256Ki", 20_228_358_144),
            ("100m", 1),
            ("1001m", 2),
            ("1n", 1),
            ("0n", 0),
            ("1e-3", 1),
            ("1e-99999999999", 1),
            ("0.1", 1),
            ("0.3Ki", 308),
            ("1.0000000000000000000000001Ki", 1025),
            ("1E", 1_000_000_000_000_000_000),
            ("7Ei", 8_070_450_532_247_928_832),
            ("8Ei", QUANTITY_MAX),
            ("1e99999999999999999999", QUANTITY_MAX),
            ("0e99", 0),
            ("99999999999999999999999999999999999999999999999999", QUANTITY_MAX),
            ("99999999999999999999999999999999999999999999999999m", QUANTITY_MAX),
            ("9223372036854775808", QUANTITY_MAX),
        ];
        for (text, bytes) in cases {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn other_text_is_refused() {
        let cases = [
            "", " ", ".", "Mi", "-1Mi", "1MB", "1mi", "1KI", "1K", "1 Mi", "1.2.3", "1e", "1e+", "1e1.5",
            "1ee5", "Infinity", "0x10", "１Mi", "1Mi ", "--1", "+-1",
        ];
        for text in cases {
            assert!(parse_bytes(text).is_err(), "{text:?} was read");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC*|[0-9.+-]{0,40}[numkKMGTPEie0-9+-]{0,8}") {
            let _ = parse_bytes(&text);
        }

        #[test]
        fn bytes_survive_being_written(bytes in 0..QUANTITY_MAX, suffix in "|m|k|Ki|e2|e-2") {
            let read = parse_bytes(&format!("{bytes}{suffix}")).unwrap();
            let expected = match suffix.as_str() {
                "m" => bytes.div_ceil(1000),
                "k" => bytes.saturating_mul(1000).min(QUANTITY_MAX),
                "Ki" => bytes.saturating_mul(1024).min(QUANTITY_MAX),
                "e2" => bytes.saturating_mul(100).min(QUANTITY_MAX),
                "e-2" => bytes.div_ceil(100),
                _ => bytes,
            };
            prop_assert_eq!(read, expected);
        }
    }
}

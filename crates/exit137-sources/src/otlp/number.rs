//! Numbers and ids as OTLP/JSON writes them: in quotes or not, hexadecimal or base64.

/// A whole number without sign. Fractions and exponents are accepted when the value is whole enough.
#[inline]
pub(crate) fn unsigned(text: &[u8]) -> Option<u64> {
    digits(text).or_else(|| {
        let value = float(text)?;
        (0.0..=u64::MAX as f64).contains(&value).then_some(value as u64)
    })
}

/// A whole number.
pub(crate) fn signed(text: &[u8]) -> Option<i64> {
    let (magnitude, negative) = match text {
        [b'-', rest @ ..] => (rest, true),
        _ => (text, false),
    };
    if let Some(magnitude) = digits(magnitude) {
        let value = if negative { -i128::from(magnitude) } else { i128::from(magnitude) };
        return i64::try_from(value).ok();
    }
    let value = float(text)?;
    ((i64::MIN as f64)..=(i64::MAX as f64)).contains(&value).then_some(value as i64)
}

/// Any number, `NaN` and the infinities included.
pub(crate) fn float(text: &[u8]) -> Option<f64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Eight digits a step: times have nineteen.
#[inline]
fn digits(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    let mut value: u64 = 0;
    let mut rest = text;
    while let Some((head, tail)) = rest.split_first_chunk::<8>() {
        value = value.checked_mul(100_000_000)?.checked_add(eight_digits(*head)?)?;
        rest = tail;
    }
    for byte in rest {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value.checked_mul(10)?.checked_add(u64::from(digit))?;
    }
    Some(value)
}

#[inline]
fn eight_digits(text: [u8; 8]) -> Option<u64> {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let word = u64::from_le_bytes(text);
    let digits = word ^ (EACH * 0x30);
    // Above nine, adding 0x76 reaches the high bit of the byte.
    if (digits | digits.wrapping_add(EACH * 0x76)) & (EACH * 0x80) != 0 {
        return None;
    }
    let pairs = digits.wrapping_mul(10).wrapping_add(digits >> 8) & 0x00ff_00ff_00ff_00ff;
    let fours = pairs.wrapping_mul(100).wrapping_add(pairs >> 16) & 0x0000_ffff_0000_ffff;
    Some(fours.wrapping_mul(10_000).wrapping_add(fours >> 32) & 0xffff_ffff)
}

/// A trace id: 32 hexadecimal digits, or the base64 that plain protobuf JSON makes; 0 when absent.
#[inline]
pub(crate) fn trace_id(text: &[u8]) -> Option<u128> {
    match text.len() {
        32 => text.chunks_exact(8).try_fold(0, |id, part| Some(id << 32 | u128::from(eight_hex(part)?))),
        0 => Some(0),
        _ => base64::<16>(text).map(u128::from_be_bytes),
    }
}

/// A span id: 16 hexadecimal digits, or base64; 0 when absent.
#[inline]
pub(crate) fn span_id(text: &[u8]) -> Option<u64> {
    match text.len() {
        16 => text.chunks_exact(8).try_fold(0, |id, part| Some(id << 32 | u64::from(eight_hex(part)?))),
        0 => Some(0),
        _ => base64::<8>(text).map(u64::from_be_bytes),
    }
}

fn eight_hex(text: &[u8]) -> Option<u32> {
    let mut value = 0;
    let mut wrong = 0;
    for &byte in text {
        let digit = HEX[byte as usize];
        wrong |= digit;
        value = value << 4 | u32::from(digit & 0xf);
    }
    (wrong & 0xf0 == 0).then_some(value)
}

const HEX: [u8; 256] = {
    let mut table = [0xff; 256];
    let mut digit = 0;
    while digit < 16 {
        table[b"0123456789abcdef"[digit] as usize] = digit as u8;
        table[b"0123456789ABCDEF"[digit] as usize] = digit as u8;
        digit += 1;
    }
    table
};

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Exactly `N` bytes from base64 of either alphabet, padded or not.
fn base64<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let mut out = [0; N];
    let mut length = 0;
    let (mut bits, mut count) = (0u32, 0);
    for &byte in text.iter().filter(|&&byte| byte != b'=') {
        let plain = match byte {
            b'-' => b'+',
            b'_' => b'/',
            other => other,
        };
        let digit = BASE64.iter().position(|&known| known == plain)?;
        bits = bits << 6 | digit as u32;
        count += 6;
        if count >= 8 {
            count -= 8;
            *out.get_mut(length)? = (bits >> count) as u8;
            length += 1;
        }
    }
    (length == N).then_some(out)
}

/// Base64 of `bytes`, padded, at the end of `out`.
pub(crate) fn push_base64(bytes: &[u8], out: &mut Vec<u8>) {
    for group in bytes.chunks(3) {
        let bits =
            group.iter().fold(0u32, |bits, &byte| bits << 8 | u32::from(byte)) << (8 * (3 - group.len()));
        for place in 0..4 {
            let digit = BASE64[(bits >> (18 - 6 * place) & 63) as usize];
            out.push(if place <= group.len() { digit } else { b'=' });
        }
    }
}

/// `double` as JSON would write it, the three values without a JSON form as protobuf names them.
pub(crate) fn double_text(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "Infinity" } else { "-Infinity" }.to_owned();
    }
    format!("{value:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers() {
        for (text, expected) in [
            ("0", Some(0)),
            ("1795340718010416196", Some(1_795_340_718_010_416_196)),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", Some(u64::MAX)), // rounds to the limit, which times never reach
            ("12345678", Some(12_345_678)),
            ("1e3", Some(1000)),
            ("1.5", Some(1)),
            ("-1", None),
            ("1234567x", None),
            ("", None),
        ] {
            assert_eq!(unsigned(text.as_bytes()), expected, "{text}");
        }
        assert_eq!(signed(b"-9223372036854775808"), Some(i64::MIN));
        assert_eq!(signed(b"-12"), Some(-12));
        assert_eq!(signed(b"x"), None);
    }

    #[test]
    fn ids_are_hexadecimal_or_base64() {
        assert_eq!(span_id(b"83797909CC057293"), Some(0x8379_7909_cc05_7293));
        assert_eq!(span_id(b"g3l5CcwFcpM="), Some(0x8379_7909_cc05_7293));
        assert_eq!(span_id(b""), Some(0));
        assert_eq!(span_id(b"83797909cc05729x"), None);
        assert_eq!(
            trace_id(b"93866a3532a993adca855526b7ca9d6d"),
            Some(0x9386_6a35_32a9_93ad_ca85_5526_b7ca_9d6d)
        );
        assert_eq!(trace_id(b"k4ZqNTKpk63KhVUmt8qdbQ=="), Some(0x9386_6a35_32a9_93ad_ca85_5526_b7ca_9d6d));
        let mut text = Vec::new();
        push_base64(&[0x83, 0x79, 0x79, 0x09, 0xcc, 0x05, 0x72, 0x93], &mut text);
        assert_eq!(text, b"g3l5CcwFcpM=");
    }
}

//! Splits one line of a kernel log into who wrote it, when, and the kernel's text.
//!
//! Read are records of `/dev/kmsg`, `dmesg` (plain, `-T`, `-x`, `-r`, `--time-format iso`, coloured),
//! `journalctl -k` in its short formats, and the syslog prefixes of `/var/log/kern.log`. A line that user space
//! wrote is told apart, for anybody may write the words of an OOM kill there.
//!
//! Where a line carries two times (`Nov 22 09:41:39 host kernel: [ 1895.102216] …`) the outer one counts: it
//! needs no boot time to be understood, although it is coarser.

use std::borrow::Cow;

use crate::kernel::KernelTime;
use crate::kernel::stamp;
use crate::time::UnixNanos;

/// One line, told apart by who wrote it.
#[derive(Debug, Clone, PartialEq)]
pub enum Line<'a> {
    /// The kernel wrote it.
    Kernel(Record<'a>),
    /// User space wrote it: only its place in the stream counts. The text is not kept.
    UserSpace(Record<'a>),
    /// It has no prefix: the log was saved without them, or it continues the line before.
    Bare(&'a str),
    /// ` KEY=value`, which `/dev/kmsg` puts behind a record.
    Dictionary,
}

/// What a prefix says, and what follows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Record<'a> {
    /// When.
    pub at: KernelTime,
    /// Host name, if the format has one.
    pub host: Option<&'a str>,
    /// `/dev/kmsg` sequence number.
    pub sequence: Option<u64>,
    /// `/dev/kmsg` flags it as a fragment of a longer line.
    pub fragment: bool,
    /// 0 (emergency) to 7 (debug), if the format has it.
    pub level: Option<u8>,
    /// The message. Newlines inside a record are kept.
    pub text: Cow<'a, str>,
}

impl<'a> Record<'a> {
    fn new(at: KernelTime, text: &'a str) -> Self {
        let text = Cow::Borrowed(text);
        Self { at, host: None, sequence: None, fragment: false, level: None, text }
    }
}

/// Longer names are not host names.
const HOST_BYTES_MAX: usize = 255;

const FACILITIES: [&str; 20] = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp",
    "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
];

const LEVELS: [&str; 8] = ["emerg", "alert", "crit", "err", "warn", "notice", "info", "debug"];

/// `line` without terminal colours (`dmesg --color=always`).
pub fn without_colours(line: &str) -> Cow<'_, str> {
    if !line.contains('\u{1b}') {
        return Cow::Borrowed(line);
    }
    let mut plain = String::with_capacity(line.len());
    let mut chars = line.chars();
    while let Some(char) = chars.next() {
        if char != '\u{1b}' {
            plain.push(char);
            continue;
        }
        // ESC [ parameters final-byte; a lone ESC loses only itself and the next character.
        if chars.next() == Some('[') {
            chars.by_ref().find(|char| ('@'..='~').contains(char));
        }
    }
    Cow::Owned(plain)
}

/// Splits `line`, which has no line end and no colours.
pub fn split(line: &str) -> Line<'_> {
    if is_dictionary(line) {
        return Line::Dictionary;
    }
    if let Some(record) = kmsg(line) {
        return record;
    }
    let (facility, level, rest) = priority(line);
    let Some(mut split) = dated(rest) else {
        // A level alone is a prefix too: `dmesg -r` of a kernel without printk times.
        return match (facility, level) {
            (Some(0), Some(_)) => Line::Kernel(Record { level, ..Record::new(KernelTime::Unknown, rest) }),
            (Some(_), Some(_)) => Line::UserSpace(Record::new(KernelTime::Unknown, "")),
            _ => Line::Bare(line),
        };
    };
    if let Line::Kernel(record) | Line::UserSpace(record) = &mut split {
        record.level = level;
    }
    match split {
        Line::Kernel(record) if facility.is_some_and(|facility| facility != 0) => {
            Line::UserSpace(Record { text: Cow::Borrowed(""), ..record })
        }
        split => split,
    }
}

fn dated(text: &str) -> Option<Line<'_>> {
    match text.bytes().next()? {
        b'[' => bracketed(text),
        b'0'..=b'9' => iso(text).or_else(|| rfc5424(text)).or_else(|| short_unix(text)),
        b'A'..=b'Z' => {
            let (at, rest) = stamp::month_day(text).or_else(|| stamp::short_full(text))?;
            Some(tagged(at, rest.strip_prefix(' ').unwrap_or(rest)))
        }
        _ => None,
    }
}

fn is_dictionary(line: &str) -> bool {
    let Some((key, _)) = line.strip_prefix(' ').and_then(|rest| rest.split_once('=')) else {
        return false;
    };
    !key.is_empty()
        && key.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_' || byte.is_ascii_digit())
}

/// `<prio>,<seq>,<usec>,<flags>[,caller=…];<text>`
fn kmsg(line: &str) -> Option<Line<'_>> {
    let (priority, rest) = stamp::number(line)?;
    let (sequence, rest) = stamp::number(rest.strip_prefix(',')?)?;
    let (micros, rest) = stamp::number(rest.strip_prefix(',')?)?;
    let (flags, text) = rest.strip_prefix(',')?.split_once(';')?;
    let flag = flags.split(',').next().unwrap_or_default();
    if flag.len() > 2 {
        return None;
    }
    let since_boot = i64::try_from(micros).unwrap_or(i64::MAX).saturating_mul(1000);
    let record = Record {
        at: KernelTime::SinceBoot(since_boot),
        host: None,
        sequence: Some(sequence),
        fragment: flag.contains(['c', '+']),
        level: Some((priority & 7) as u8),
        text: Cow::Borrowed(""),
    };
    if priority >> 3 != 0 {
        return Some(Line::UserSpace(record));
    }
    Some(Line::Kernel(Record { text: unescaped(text), ..record }))
}

/// Bytes that `/dev/kmsg` writes as `\xNN`.
fn unescaped(text: &str) -> Cow<'_, str> {
    if !text.contains("\\x") {
        return Cow::Borrowed(text);
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("\\x") {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        let code = rest.get(at + 2..at + 4).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        bytes.push(code.unwrap_or(b'\\'));
        rest = &rest[at + if code.is_some() { 4 } else { 1 }..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    Cow::Owned(String::from_utf8_lossy(&bytes).into_owned())
}

/// `<4>` or `kern  :warn  : `: facility, level, rest.
fn priority(line: &str) -> (Option<u8>, Option<u8>, &str) {
    if let Some((number, rest)) = line.strip_prefix('<').and_then(stamp::number)
        && let Some(rest) = rest.strip_prefix('>')
        && let Ok(number) = u8::try_from(number)
    {
        return (Some(number >> 3), Some(number & 7), rest);
    }
    named_priority(line).unwrap_or((None, None, line))
}

fn named_priority(line: &str) -> Option<(Option<u8>, Option<u8>, &str)> {
    let (facility, rest) = line.split_once(':')?;
    let (level, rest) = rest.split_once(':')?;
    let facility = FACILITIES.iter().position(|name| *name == facility.trim_end())?;
    let level = LEVELS.iter().position(|name| *name == level.trim_end())?;
    Some((Some(facility as u8), Some(level as u8), rest.strip_prefix(' ').unwrap_or(rest)))
}

/// `[ 1895.102216] text`, `[ 1895.102216] host kernel: text`, `[Sun Nov 22 09:41:39 2026] text`, and the
/// relative times of `dmesg`, which say nothing without their neighbours.
fn bracketed(text: &str) -> Option<Line<'_>> {
    let inside = text.strip_prefix('[')?;
    if let Some((nanos, rest)) = since_boot(inside) {
        let mut record = Record::new(KernelTime::SinceBoot(nanos), without_caller(rest));
        // `journalctl -o short-monotonic`; other tags read as text that no OOM line begins with.
        if let Some((host, message)) = rest.split_once(" kernel: ")
            && !host.is_empty()
            && host.len() <= HOST_BYTES_MAX
            && !host.contains([' ', ':', '['])
        {
            record.host = Some(host);
            record.text = Cow::Borrowed(message);
        }
        return Some(Line::Kernel(record));
    }
    let (at, rest) = stamp::ctime(inside).or_else(|| relative(inside))?;
    Some(Line::Kernel(Record::new(at, without_caller(closed(rest)?))))
}

/// `1895.102216] ` behind the bracket, maybe with ` <    0.000017>`. Task table rows are `[  12001] `: the
/// decimals tell them apart.
fn since_boot(inside: &str) -> Option<(i64, &str)> {
    let (nanos, decimals, rest) = stamp::decimal_seconds(inside.trim_start_matches(' '))?;
    Some((nanos, closed(rest).filter(|_| decimals > 0)?))
}

/// What follows `]`, or ` <    0.000017>]`.
fn closed(rest: &str) -> Option<&str> {
    let rest = match rest.strip_prefix(" <") {
        Some(delta) => {
            let (_, decimals, rest) = stamp::decimal_seconds(delta.trim_start_matches(' '))?;
            rest.strip_prefix('>').filter(|_| decimals > 0)?
        }
        None => rest,
    };
    let rest = rest.strip_prefix(']')?;
    Some(rest.strip_prefix(' ').unwrap_or(rest))
}

/// `<    0.000017>`, `  +0.000017`, `Nov22 09:41`.
fn relative(inside: &str) -> Option<(KernelTime, &str)> {
    if let Some(delta) = inside.trim_start_matches(' ').strip_prefix(['<', '+']) {
        let (_, decimals, rest) = stamp::decimal_seconds(delta.trim_start_matches(' '))?;
        let rest = rest.strip_prefix('>').unwrap_or(rest);
        return (decimals > 0).then_some((KernelTime::Unknown, rest));
    }
    let day = inside.get(..3).filter(|month| month.bytes().all(|byte| byte.is_ascii_alphabetic()))?;
    let (_, rest) = stamp::number(inside[day.len()..].trim_start_matches(' '))?;
    let (_, rest) = stamp::number(rest.strip_prefix(' ')?)?;
    let (_, rest) = stamp::number(rest.strip_prefix(':')?)?;
    Some((KernelTime::Unknown, rest))
}

/// Drops `[ T1234] ` or `[    C0] ` (`CONFIG_PRINTK_CALLER`).
fn without_caller(text: &str) -> &str {
    let caller = text.strip_prefix('[').map(|inside| inside.trim_start_matches(' '));
    let after = caller
        .and_then(|caller| caller.strip_prefix(['T', 'C']))
        .and_then(stamp::number)
        .and_then(|(_, rest)| rest.strip_prefix(']'));
    after.map_or(text, |rest| rest.strip_prefix(' ').unwrap_or(rest))
}

/// ISO 8601 at the start: `dmesg` when decimals follow a comma, else journald or syslog.
fn iso(text: &str) -> Option<Line<'_>> {
    let (at, comma, rest) = stamp::iso(text)?;
    let rest = rest.strip_prefix(' ')?;
    if comma {
        return Some(Line::Kernel(Record::new(at, without_caller(rest))));
    }
    Some(tagged(at, rest))
}

/// `1 <time> <host> kernel <procid> <msgid> <data> text`, the `<PRI>` before it already taken.
fn rfc5424(text: &str) -> Option<Line<'_>> {
    let (at, _, rest) = stamp::iso(text.strip_prefix("1 ")?)?;
    let mut words = rest.strip_prefix(' ')?.splitn(6, ' ');
    let (host, tag) = (words.next()?, words.next()?);
    let (_process, _message, _data) = (words.next()?, words.next()?, words.next()?);
    let message = words.next().unwrap_or_default();
    let message = message.strip_prefix('\u{feff}').unwrap_or(message);
    let host = Some(host).filter(|host| *host != "-" && host.len() <= HOST_BYTES_MAX);
    if tag != "kernel" {
        return Some(Line::UserSpace(Record { host, ..Record::new(at, "") }));
    }
    Some(Line::Kernel(Record { host, ..Record::new(at, without_inner_time(message)) }))
}

/// `1795340714.537605 host kernel: text`
fn short_unix(text: &str) -> Option<Line<'_>> {
    let (nanos, decimals, rest) = stamp::decimal_seconds(text)?;
    if decimals == 0 {
        return None;
    }
    let at = KernelTime::Wall(stamp::wall(UnixNanos(nanos), decimals));
    Some(tagged(at, rest.strip_prefix(' ')?))
}

/// `host kernel: text`, or `kernel: text` where host names are left out. Any other tag is user space.
fn tagged(at: KernelTime, rest: &str) -> Line<'_> {
    if let Some(message) = after_tag(rest) {
        return Line::Kernel(Record::new(at, without_inner_time(message)));
    }
    let Some((host, tagged)) = rest.split_once(' ').filter(|(host, _)| host.len() <= HOST_BYTES_MAX) else {
        return Line::UserSpace(Record::new(at, ""));
    };
    // Without a host name the first word is already the tag: `systemd[1]: …`.
    let host = Some(host).filter(|host| !host.is_empty() && !host.ends_with(':'));
    match after_tag(tagged) {
        Some(message) => Line::Kernel(Record { host, ..Record::new(at, without_inner_time(message)) }),
        None => Line::UserSpace(Record { host, ..Record::new(at, "") }),
    }
}

fn after_tag(text: &str) -> Option<&str> {
    let rest = text.strip_prefix("kernel:")?;
    Some(rest.strip_prefix(' ').unwrap_or(rest))
}

/// Drops the kernel's own `[ 1895.102216] ` behind a syslog prefix.
fn without_inner_time(text: &str) -> &str {
    let inner = text.strip_prefix('[').and_then(since_boot);
    without_caller(inner.map_or(text, |(_, rest)| rest))
}

#[cfg(test)]
#[path = "prefix_tests.rs"]
mod tests;

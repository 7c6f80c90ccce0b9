//! Text from outside (names, attribute values, messages) made harmless: for a terminal, for Markdown, for HTML.
//!
//! Whoever can send a span or name a pod writes into what an engineer reads. Escape sequences could repaint a
//! terminal, bidirectional overrides could make text read as something else, markup could run or link.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Stacked accents are drawn outside their line; a few are enough for every language.
const ZERO_WIDTH_RUN_MAX: usize = 4;

/// Stops Markdown readers from making a link or a mention of what follows, and is not seen.
const WORD_JOINER: char = '\u{2060}';

/// `text` as one line without anything that steers a terminal or reorders text. White space becomes spaces.
pub(crate) fn line(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    let mut zero_width_run = 0;
    while let Some(c) = chars.next() {
        if c == '\u{1b}' {
            skip_escape_sequence(&mut chars);
            continue;
        }
        if c.is_whitespace() {
            out.push(' ');
            continue;
        }
        if c.is_control() || is_invisible(c) {
            continue;
        }
        zero_width_run = if c.width() == Some(0) { zero_width_run + 1 } else { 0 };
        if zero_width_run <= ZERO_WIDTH_RUN_MAX {
            out.push(c);
        }
    }
    out
}

/// `ESC [ … letter` and `ESC ] … BEL` go as a whole, so that no `[31m` stays behind.
fn skip_escape_sequence(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    match chars.peek() {
        Some('[') => {
            chars.next();
            while chars.next_if(|c| ('\u{20}'..='\u{3f}').contains(c)).is_some() {}
            chars.next_if(|c| ('\u{40}'..='\u{7e}').contains(c));
        }
        Some(']' | 'P' | '_' | '^' | 'X') => {
            // Its end is BEL or ESC \. Without an end nothing of the rest can be trusted to be text.
            while let Some(c) = chars.next() {
                if c == '\u{7}' || c == '\u{9c}' {
                    return;
                }
                if c == '\u{1b}' {
                    chars.next_if_eq(&'\\');
                    return;
                }
            }
        }
        _ => {}
    }
}

/// Characters that draw nothing and change how their neighbours are drawn or read.
pub(super) fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}'
        | '\u{fff0}'..='\u{fffb}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// At most `columns` columns of `text`, its middle left out: both ends of a pod name tell something.
pub(crate) fn shorten(text: &str, columns: usize) -> String {
    let text = line(text);
    if text.width() <= columns {
        return text;
    }
    let room = columns.saturating_sub(1);
    let tail_room = room / 3;
    let (mut head, mut used) = (String::new(), 0);
    for c in text.chars() {
        used += c.width().unwrap_or(0);
        if used > room - tail_room {
            break;
        }
        head.push(c);
    }
    let (mut tail, mut used) = (Vec::new(), 0);
    for c in text.chars().rev() {
        used += c.width().unwrap_or(0);
        if used > tail_room {
            break;
        }
        tail.push(c);
    }
    head.push('…');
    head.extend(tail.into_iter().rev());
    head
}

/// For HTML, in text and in quoted attributes.
pub(super) fn html(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    for c in line(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// For Markdown prose and table cells: no markup, no links, no mentions.
pub(super) fn markdown(text: &str) -> String {
    let text = line(text);
    let mut out = String::with_capacity(text.len() + 8);
    let mut rest = text.trim();
    let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    if digits > 0 && rest[digits..].starts_with(['.', ')']) {
        // "1." at the start of a line would begin a list.
        out.push_str(&rest[..digits]);
        out.push('\\');
        rest = &rest[digits..];
    }
    let mut chars = rest.chars().peekable();
    let mut first = digits == 0;
    while let Some(c) = chars.next() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\\' | '`' | '*' | '_' | '{' | '}' | '[' | ']' | '|' | '~' | '$' | '^' => out.extend(['\\', c]),
            '-' | '+' | '=' if first => out.extend(['\\', c]),
            '#' => out.extend(['\\', '#', WORD_JOINER]),
            '@' => out.extend(['@', WORD_JOINER]),
            ':' if chars.peek() == Some(&'/') => out.extend([':', WORD_JOINER]),
            '.' if out.to_ascii_lowercase().ends_with("www") => out.extend([WORD_JOINER, '.']),
            c => out.push(c),
        }
        first = false;
    }
    out
}

/// A Markdown code span, good in tables too: for ids, names and raw values.
pub(super) fn markdown_code(text: &str) -> String {
    // A backtick would end the span, a bar the table cell; look-alikes keep the text readable.
    let text = line(text).replace('`', "ˋ").replace('|', "¦");
    match text.trim() {
        "" => String::new(),
        text => format!("`{text}`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_a_terminal_is_gone() {
        let cases = [
            ("plain", "plain"),
            ("a\x1b[31mb\x1b[0m", "ab"),
            ("a\x1b]0;title\x07b", "ab"),
            ("a\x1b]8;;http://x\x1b\\b", "ab"),
            ("a\x1b]never ends", "a"),
            ("a\u{9b}31mb", "a31mb"),
            ("two\nlines\tand\r\u{2028}more", "two lines and  more"),
            ("pod\u{202e}gpj.exe\u{2066}", "podgpj.exe"),
            ("a\u{200b}b\u{feff}", "ab"),
            ("e\u{301}\u{301}\u{301}\u{301}\u{301}\u{301}", "e\u{301}\u{301}\u{301}\u{301}"),
            ("\x1b", ""),
        ];
        for (text, clean) in cases {
            assert_eq!(line(text), clean, "{text:?}");
        }
    }

    #[test]
    fn long_names_keep_both_ends() {
        let cases = [
            ("short", 10, "short"),
            ("catalog-api-b6dgpjc8-kf2kt", 14, "catalog-a…f2kt"),
            ("数据库数据库数据库", 8, "数据…库"),
            ("abc", 1, "…"),
            ("abc", 0, "…"),
        ];
        for (text, columns, short) in cases {
            assert_eq!(shorten(text, columns), short);
        }
    }

    #[test]
    fn markup_is_text() {
        let cases = [
            ("a|b `c` *d*", "a\\|b \\`c\\` \\*d\\*"),
            ("# title", "\\#\u{2060} title"),
            ("1. item", "1\\. item"),
            ("- item", "\\- item"),
            ("@team see #12", "@\u{2060}team see \\#\u{2060}12"),
            ("https://evil.example", "https:\u{2060}//evil.example"),
            ("WWW.evil.example", "WWW\u{2060}.evil.example"),
            ("[x](javascript:a)", "\\[x\\](javascript:a)"),
            ("<img src=x>", "&lt;img src=x&gt;"),
        ];
        for (text, escaped) in cases {
            assert_eq!(markdown(text), escaped);
        }
        assert_eq!(markdown_code("a`b|c"), "`aˋb¦c`");
        assert_eq!(html("<a href='x'>&\""), "&lt;a href=&#39;x&#39;&gt;&amp;&quot;");
    }
}

//! Archives of a few regular files, in the oldest form that every `tar` reads.

/// Of a header and of what contents are filled up to.
const BLOCK: usize = 512;

/// Names that fit into a header.
const NAME_BYTES_MAX: usize = 100;

/// The files in a folder of this name. A name that is too long is left out; captures have none.
pub(crate) fn write(folder: &str, files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut out = Vec::with_capacity(files.iter().map(|(_, bytes)| bytes.len() + 2 * BLOCK).sum());
    for (name, bytes) in files {
        let name = format!("{folder}/{name}");
        if name.len() > NAME_BYTES_MAX {
            continue;
        }
        out.extend_from_slice(&header(&name, bytes.len()));
        out.extend_from_slice(bytes);
        out.resize(out.len().next_multiple_of(BLOCK), 0);
    }
    out.resize(out.len() + 2 * BLOCK, 0);
    out
}

fn header(name: &str, length: usize) -> [u8; BLOCK] {
    let mut header = [0; BLOCK];
    let mut put = |at: usize, text: &[u8]| header[at..at + text.len()].copy_from_slice(text);
    put(0, name.as_bytes());
    put(100, b"0000644\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, format!("{length:011o}\0").as_bytes());
    put(136, b"00000000000\0");
    put(148, b"        ");
    put(156, b"0");
    put(257, b"ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header
}

/// The regular files of an archive, without their first folder. `None` for what is no archive, or names a place
/// outside it.
pub(crate) fn read(archive: &[u8]) -> Option<Vec<(String, Vec<u8>)>> {
    let mut files = Vec::new();
    let mut rest = archive;
    loop {
        let (header, after) = rest.split_at_checked(BLOCK)?;
        if header.iter().all(|byte| *byte == 0) {
            return Some(files);
        }
        let text = |from: usize, length: usize| {
            let field = &header[from..from + length];
            std::str::from_utf8(field.split(|byte| *byte == 0).next()?).ok()
        };
        let name = text(0, NAME_BYTES_MAX)?;
        let length = usize::from_str_radix(text(124, 12)?.trim(), 8).ok()?;
        let (bytes, after) = after.split_at_checked(length)?;
        let inside = name.split_once('/')?.1;
        let is_safe = |part: &str| !part.is_empty() && part != "." && part != "..";
        if header[156] != b'0' || !inside.split('/').all(is_safe) {
            return None;
        }
        files.push((inside.to_owned(), bytes.to_vec()));
        rest = after.get(length.next_multiple_of(BLOCK) - length..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let files = vec![("a/b.txt".to_owned(), b"hello".to_vec()), ("empty".to_owned(), Vec::new())];
        assert_eq!(read(&write("folder", &files)), Some(files));
    }

    #[test]
    fn an_archive_cannot_reach_out_of_its_folder() {
        for name in ["../x", "a/../../x", "/x", "a//x"] {
            let files = vec![(name.to_owned(), Vec::new())];
            assert_eq!(read(&write("folder", &files)), None, "{name}");
        }
        assert_eq!(read(b"rubbish"), None);
    }
}

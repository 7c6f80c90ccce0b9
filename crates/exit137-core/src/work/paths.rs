//! Paths of requests: what identifies one of them is left out, so that calls of one route look alike.

/// The path of a URL or of a request target, without its query.
pub fn path_of(url: &str) -> &str {
    let after_scheme =
        url.split_once("://").map_or(url, |(_, rest)| rest.find('/').map_or("/", |start| &rest[start..]));
    after_scheme.split(['?', '#']).next().unwrap_or("/")
}

/// A path with what looks like an identifier (digits, UUIDs, long tokens) replaced by `{}`.
pub fn path_shape(path: &str) -> String {
    let mut shape = String::with_capacity(path.len());
    push_path_shape(path, &mut shape);
    shape
}

pub(super) fn push_path_shape(path: &str, into: &mut String) {
    let is_identifier = |segment: &str| {
        let digits = segment.bytes().filter(u8::is_ascii_digit).count();
        // `v1` and `page2` are names; `67`, `SKU-0001234` and a UUID are not.
        digits > 0
            && (digits == segment.len()
                || segment.len() >= 16
                || (segment.len() >= 8 && digits * 3 >= segment.len()))
    };
    for (index, segment) in path.split('/').enumerate() {
        if index > 0 {
            into.push('/');
        }
        into.push_str(if is_identifier(segment) { "{}" } else { segment });
    }
}

/// Whether the pattern of `operation` (`GET /members/<int:id>`) fits `shape` (`GET /members/{}`), and how many of
/// its segments are literal.
pub(super) fn route_fits(operation: &str, shape: &str) -> Option<usize> {
    let (method, pattern) = operation.split_once(' ')?;
    let (called_method, path) = shape.split_once(' ')?;
    let (pattern, path): (Vec<&str>, Vec<&str>) = (pattern.split('/').collect(), path.split('/').collect());
    if method != called_method || pattern.len() != path.len() {
        return None;
    }
    let parameter = |segment: &str| segment.starts_with([':', '{', '<', '*']);
    let mut literal = 0;
    for (pattern, segment) in pattern.iter().zip(&path) {
        if pattern == segment {
            literal += 1;
        } else if !parameter(pattern) {
            return None;
        }
    }
    Some(literal)
}

#[cfg(test)]
mod tests {
    use super::{path_of, path_shape, route_fits};

    #[test]
    fn identifiers_in_paths_are_told_from_names() {
        let cases = [
            ("http://catalog.shop.svc:58715/products/67", "/products/{}"),
            ("/orders/9f1c2d3e-aaaa-4bbb-8ccc-0123456789ab/lines?x=1", "/orders/{}/lines"),
            ("/v1/hotel", "/v1/hotel"),
            ("https://example.net", "/"),
            ("/exports?range=year", "/exports"),
        ];
        for (url, shape) in cases {
            assert_eq!(path_shape(path_of(url)), shape, "{url}");
        }
    }

    #[test]
    fn the_most_literal_route_fits_best() {
        assert_eq!(route_fits("GET /members/<int:id>", "GET /members/{}"), Some(2));
        assert_eq!(route_fits("GET /members/me", "GET /members/me"), Some(3));
        assert_eq!(route_fits("POST /members/:id", "GET /members/{}"), None);
        assert_eq!(route_fits("GET /members", "GET /members/{}"), None);
    }
}

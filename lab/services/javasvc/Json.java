import java.util.*;

/** Just enough JSON. */
final class Json {
    private final String s;
    private int i;

    private Json(String s) { this.s = s; }

    static Object parse(String s) { return new Json(s).value(); }

    private char peek() {
        while (Character.isWhitespace(s.charAt(i))) i++;
        return s.charAt(i);
    }

    private Object value() {
        char c = peek();
        if (c == '{') {
            Map<String, Object> m = new LinkedHashMap<>();
            i++;
            while (peek() != '}') {
                String k = (String) value();
                peek();
                i++;
                m.put(k, value());
                if (peek() == ',') i++;
            }
            i++;
            return m;
        }
        if (c == '[') {
            List<Object> l = new ArrayList<>();
            i++;
            while (peek() != ']') {
                l.add(value());
                if (peek() == ',') i++;
            }
            i++;
            return l;
        }
        if (c == '"') {
            StringBuilder b = new StringBuilder();
            for (i++; s.charAt(i) != '"'; i++) {
                if (s.charAt(i) == '\\') {
                    i++;
                    if (s.charAt(i) == 'u') {
                        b.append((char) Integer.parseInt(s.substring(i + 1, i + 5), 16));
                        i += 4;
                        continue;
                    }
                    b.append(s.charAt(i) == 'n' ? '\n' : s.charAt(i));
                } else b.append(s.charAt(i));
            }
            i++;
            return b.toString();
        }
        int j = i;
        while (i < s.length() && ",]} \n".indexOf(s.charAt(i)) < 0) i++;
        String w = s.substring(j, i);
        return switch (w) {
            case "true" -> true;
            case "false" -> false;
            case "null" -> null;
            default -> Double.parseDouble(w);
        };
    }

    static String write(Object o) {
        StringBuilder b = new StringBuilder();
        write(o, b);
        return b.toString();
    }

    private static void write(Object o, StringBuilder b) {
        if (o instanceof Map<?, ?> m) {
            String sep = "{";
            for (var e : m.entrySet()) {
                b.append(sep);
                write(e.getKey(), b);
                b.append(':');
                write(e.getValue(), b);
                sep = ",";
            }
            b.append(m.isEmpty() ? "{}" : "}");
        } else if (o instanceof List<?> l) {
            String sep = "[";
            for (Object x : l) {
                b.append(sep);
                write(x, b);
                sep = ",";
            }
            b.append(l.isEmpty() ? "[]" : "]");
        } else if (o instanceof String s) {
            b.append('"').append(s.replace("\\", "\\\\").replace("\"", "\\\"").replace("\n", "\\n")).append('"');
        } else b.append(o);
    }
}

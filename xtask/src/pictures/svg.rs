//! What a program prints on a terminal, as a picture.

/// How wide a character is, and how high a line, in pixels.
const WIDTH: f64 = 8.4;
const HEIGHT: f64 = 19.0;
const MARGIN: f64 = 16.0;

/// Light and dark, as the reader's system has it.
const STYLE: &str = "\
<style>
svg { --back: #fff; --frame: #d0d7de; --text: #1f2328; --dim: #656d76; --red: #cf222e; --green: #1a7f37; --yellow: #9a6700 }
@media (prefers-color-scheme: dark) {
  svg { --back: #0d1117; --frame: #3d444d; --text: #e6edf3; --dim: #8d96a0; --red: #ff7b72; --green: #56d364; --yellow: #e3b341 }
}
rect { fill: var(--back); stroke: var(--frame) }
text { font: 14px ui-monospace, 'SF Mono', Menlo, Consolas, 'DejaVu Sans Mono', monospace; fill: var(--text) }
.bold { font-weight: bold } .dim { fill: var(--dim) }
.red { fill: var(--red) } .green { fill: var(--green) } .yellow { fill: var(--yellow) }
</style>
";

/// A character, and the classes of its style.
type Cell = (char, String);

/// A picture of a terminal that is so many characters wide.
pub(super) fn picture(title: &str, output: &str, columns: usize) -> String {
    let lines = screen(output, columns);
    let width = columns as f64 * WIDTH + 2.0 * MARGIN;
    let height = lines.len() as f64 * HEIGHT + 2.0 * MARGIN;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\" \
         height=\"{height:.0}\" role=\"img\">\n<title>{}</title>\n{STYLE}\
         <rect x=\".5\" y=\".5\" width=\"{:.0}\" height=\"{:.0}\" rx=\"8\"/>\n",
        escaped(title),
        width - 1.0,
        height - 1.0,
    );
    for (row, line) in lines.iter().enumerate() {
        let y = MARGIN + HEIGHT * (row as f64 + 0.75);
        let mut column = 0;
        for run in line.chunk_by(|(_, one), (_, next)| one == next) {
            let text: String = run.iter().map(|(char, _)| char).collect();
            if !text.trim().is_empty() {
                // A font may be wider or narrower.
                let (x, length) = (MARGIN + column as f64 * WIDTH, run.len() as f64 * WIDTH);
                let class = match run[0].1.trim() {
                    "" => String::new(),
                    class => format!(" class=\"{class}\""),
                };
                // Not all browsers keep several blanks.
                let text = escaped(&text).replace(' ', "\u{a0}");
                svg += &format!(
                    "<text x=\"{x:.1}\" y=\"{y:.1}\" textLength=\"{length:.1}\"{class}>{text}</text>\n"
                );
            }
            column += run.len();
        }
    }
    svg + "</svg>\n"
}

/// The lines that stand on a terminal at the end.
fn screen(output: &str, columns: usize) -> Vec<Vec<Cell>> {
    let mut lines: Vec<Vec<Cell>> = vec![Vec::new()];
    let (mut column, mut style) = (0, String::new());
    let mut chars = output.chars();
    while let Some(char) = chars.next() {
        let row = lines.len() - 1;
        match char {
            '\r' => column = 0,
            '\n' => {
                lines.push(Vec::new());
                column = 0;
            }
            '\x1b' => {
                let sequence = chars.by_ref().skip_while(|char| *char == '[');
                let mut parameters = String::new();
                for char in sequence {
                    match char {
                        'K' => lines[row].truncate(column),
                        'm' => restyle(&mut style, &parameters),
                        char => {
                            parameters.push(char);
                            continue;
                        }
                    }
                    break;
                }
            }
            char => {
                if column == columns {
                    lines.push(Vec::new());
                    column = 0;
                }
                let line = lines.last_mut().expect("a screen has a line");
                line.truncate(column);
                line.push((char, style.clone()));
                column += 1;
            }
        }
    }
    while lines.last().is_some_and(Vec::is_empty) {
        lines.pop();
    }
    lines
}

/// Follows a sequence that sets colours.
fn restyle(style: &mut String, parameters: &str) {
    for parameter in parameters.split(';') {
        match parameter {
            "1" => style.push_str(" bold"),
            "2" => style.push_str(" dim"),
            "31" => style.push_str(" red"),
            "32" => style.push_str(" green"),
            "33" => style.push_str(" yellow"),
            _ => style.clear(),
        }
    }
}

fn escaped(text: &str) -> String {
    let text = text.replace('&', "&amp;");
    text.replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn screen_is_what_stays() {
        let text = |output| -> Vec<String> {
            let lines = screen(output, 6).into_iter();
            lines
                .map(|line| line.into_iter().map(|(char, _)| char).collect())
                .collect()
        };
        for (output, lines) in [
            ("a\r\nb\r\n", &["a", "b"][..]),
            ("wait …\r\x1b[Kdone\r\n", &["done"]),
            ("1234567\n", &["123456", "7"]),
            ("\x1b[1;32mok\x1b[0m\n\nx", &["ok", "", "x"]),
        ] {
            assert_eq!(text(output), lines, "{output:?}");
        }
        let styles = screen("a\x1b[1m\x1b[32mb\x1b[0mc", 9);
        let styles: Vec<_> = styles[0].iter().map(|(_, style)| style.trim()).collect();
        assert_eq!(styles, ["", "bold green", ""]);
    }

    #[test]
    fn picture_escapes_text() {
        let svg = picture("<a>", "<b> & \x1b[31mc\x1b[0m", 20);
        assert!(svg.contains("<title>&lt;a&gt;</title>"), "{svg}");
        assert!(svg.contains(">&lt;b&gt;\u{a0}&amp;\u{a0}</text>"), "{svg}");
        assert!(svg.contains("class=\"red\">c</text>"), "{svg}");
    }
}

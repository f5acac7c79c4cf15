//! Panels of lines, side by side, as SVG.

const SIZE: (f64, f64) = (300.0, 320.0);
const FRAME: (f64, f64, f64, f64) = (52.0, 40.0, 232.0, 220.0);

/// Places are shares of the frame: 0 is left or below, 1 is right or above.
pub(super) struct Panel {
    pub(super) title: String,
    pub(super) x: Vec<(f64, String)>,
    pub(super) y: Vec<(f64, String)>,
    pub(super) lines: Vec<Line>,
}

pub(super) struct Line {
    pub(super) name: &'static str,
    pub(super) colour: &'static str,
    pub(super) points: Vec<(f64, f64)>,
}

pub(super) fn svg(panels: &[Panel]) -> String {
    let width = SIZE.0 * panels.len() as f64;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {}\" \
         font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n",
        SIZE.1
    );
    for (n, panel) in panels.iter().enumerate() {
        svg.push_str(&panel.svg(SIZE.0 * n as f64));
    }
    svg.push_str("</svg>\n");
    svg
}

impl Panel {
    fn svg(&self, left: f64) -> String {
        let (x0, y0, width, height) = (left + FRAME.0, FRAME.1, FRAME.2, FRAME.3);
        let title = &self.title;
        let mut svg = format!(
            "<text x=\"{x0}\" y=\"20\" font-size=\"13\" font-weight=\"bold\">{title}</text>\n\
             <rect x=\"{x0}\" y=\"{y0}\" width=\"{width}\" height=\"{height}\" fill=\"none\" \
             stroke=\"#999\"/>\n"
        );
        let x = |share: f64| x0 + width * share;
        let y = |share: f64| y0 + height * (1.0 - share);
        for (share, label) in &self.y {
            let at = y(*share);
            svg.push_str(&format!(
                "<path d=\"M{x0} {at}h{width}\" stroke=\"#ddd\"/>\
                 <text x=\"{}\" y=\"{}\" text-anchor=\"end\">{label}</text>\n",
                x0 - 5.0,
                at + 4.0
            ));
        }
        for (share, label) in &self.x {
            svg.push_str(&format!(
                "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{label}</text>\n",
                x(*share),
                y0 + height + 15.0
            ));
        }
        for (
            n,
            Line {
                name,
                colour,
                points,
            },
        ) in self.lines.iter().enumerate()
        {
            let points: Vec<_> = points.iter().map(|&(dx, dy)| (x(dx), y(dy))).collect();
            let line: Vec<String> = points
                .iter()
                .map(|(x, y)| format!("{x:.1},{y:.1}"))
                .collect();
            svg.push_str(&format!(
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>\n",
                line.join(" ")
            ));
            for (x, y) in points {
                svg.push_str(&format!(
                    "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>\n"
                ));
            }
            let (x, y) = (
                x0 + 118.0 * (n % 2) as f64,
                y0 + height + 36.0 + 16.0 * (n / 2) as f64,
            );
            svg.push_str(&format!(
                "<path d=\"M{x} {}h14\" stroke=\"{colour}\" stroke-width=\"2\"/>\
                 <text x=\"{}\" y=\"{y}\">{name}</text>\n",
                y - 4.0,
                x + 18.0
            ));
        }
        svg
    }
}

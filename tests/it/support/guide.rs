//! The pages of docs/tutorial and docs/how-to as steps, and the comparison of outputs with what a
//! page shows. Nothing is run here.

/// Stands for any text in the output that a guide shows.
const ANYTHING: char = '…';
/// Separates a command from a comment that shows its output.
const COMMENT: &str = "  # ";

/// A step of a guide.
pub enum Step {
    /// Commands for the shell, and the parts of their output that the guide shows.
    Run { commands: String, shown: Vec<String> },
    /// A file that the reader saves.
    Save { name: String, text: String },
}

/// The languages and texts of all code blocks.
fn code_blocks(page: &str) -> Vec<(&str, &str)> {
    assert!(!page.contains("\n   ```"), "an indented block would be left out");
    let blocks = page.split("\n```").skip(1).step_by(2);
    blocks.map(|block| block.split_once('\n').unwrap()).collect()
}

/// The name in the first line of a file, as in `# catalog.yaml`.
fn file_name(text: &str) -> Option<&str> {
    let name = text.lines().next()?.strip_prefix("# ")?;
    let is_name = |letter: char| letter.is_ascii_alphanumeric() || ".-_".contains(letter);
    name.chars().all(is_name).then_some(name)
}

/// The output that comments at the end of lines show: status codes.
fn commented_output(commands: &str) -> Option<String> {
    let comments = commands.lines().filter_map(|line| Some(line.split_once(COMMENT)?.1));
    let is_code = |letter: char| letter.is_ascii_digit() || letter == ' ';
    let mut shown = String::new();
    for codes in comments.filter(|text| text.chars().all(is_code)) {
        shown.push(ANYTHING);
        shown += codes;
    }
    (!shown.is_empty()).then(|| format!("{shown}{ANYTHING}"))
}

/// The steps of a page. A `json` or `text` block after commands is their output.
pub fn steps(page: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    for (language, text) in code_blocks(page) {
        let text = format!("{}\n", text.trim_end());
        match (language, file_name(&text), steps.last_mut()) {
            ("sh", ..) => {
                let shown = commented_output(&text).into_iter().collect();
                steps.push(Step::Run { commands: text, shown });
            }
            (_, Some(name), _) => steps.push(Step::Save { name: name.to_owned(), text }),
            ("json" | "text", None, Some(Step::Run { shown, .. })) => shown.push(text),
            _ => {}
        }
    }
    steps
}

/// True if the output is what the page shows, but for white space.
pub fn shows(printed: &str, shown: &str) -> bool {
    let squeeze = |text: &str| text.split_whitespace().collect::<String>();
    let (printed, shown) = (squeeze(printed), squeeze(shown));
    let Some((start, others)) = shown.split_once(ANYTHING) else { return printed == shown };
    let (middle, end) = others.rsplit_once(ANYTHING).unwrap_or(("", others));
    let inside = printed.strip_prefix(start).and_then(|rest| rest.strip_suffix(end));
    let mut rest = inside;
    for part in middle.split(ANYTHING) {
        rest = rest.and_then(|rest| Some(rest.split_once(part)?.1));
    }
    rest.is_some()
}

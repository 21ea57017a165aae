//! The judge on the command line, for data without AWS.
//!
//! `cargo run -q --release -p serin-judge --example judge` reads JSON lines from standard input and answers each with one, in
//! the same order:
//!
//! ```text
//! {"id": "a", "kind": "judge_metric", "inputs": {"control": [1, 2, 3], "experiment": [2, 3, "NaN"], "direction": "increase"}}
//! {"id": "a", "result": {"classification": "Pass", ...}}
//! ```
//!
//! A line that cannot be answered gets `{"id": ..., "error": "..."}`, with the id `null` where none can be read, and the next line
//! is read. NaN comes and goes as the text "NaN".

mod kayenta;
mod sequential;

use std::io::{BufRead, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};

use serde_json::{Value, json};

fn main() -> std::io::Result<()> {
    let mut input = std::io::stdin().lock();
    let mut output = std::io::BufWriter::new(std::io::stdout().lock());
    let mut line = Vec::new();
    while input.read_until(b'\n', &mut line)? > 0 {
        serde_json::to_writer(&mut output, &answer(&line))?;
        output.write_all(b"\n")?;
        // Whoever asks line by line waits for this one.
        output.flush()?;
        line.clear();
    }
    Ok(())
}

fn answer(line: &[u8]) -> Value {
    let request: Value = match serde_json::from_slice(line.trim_ascii()) {
        Ok(request) => request,
        Err(error) => return json!({"id": null, "error": format!("no JSON: {error}")}),
    };
    let id = &request["id"];
    // A defect on one line is no reason to leave the others without an answer.
    let result = catch_unwind(AssertUnwindSafe(|| result(&request)))
        .unwrap_or_else(|_| Err("the judge has failed on this".to_owned()));
    match result {
        Ok(result) => json!({"id": id, "result": result}),
        Err(error) => json!({"id": id, "error": error}),
    }
}

fn result(request: &Value) -> Result<Value, String> {
    if !request.is_object() {
        return Err("an object is expected".to_owned());
    }
    let kind = request["kind"].as_str().ok_or("kind: a text is expected")?;
    let inputs = &request["inputs"];
    if !inputs.is_object() {
        return Err("inputs: an object is expected".to_owned());
    }
    kayenta::answer(kind, inputs)
        .or_else(|| sequential::answer(kind, inputs))
        .unwrap_or_else(|| Err(format!("kind: {kind:?} is not known")))
}

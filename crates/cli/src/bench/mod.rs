//! `vcmdq bench`: every measurement in one run, as tables and as a page with figures.
//!
//! ```text
//! run ──Results──▶ goals, figures ──View──▶ text | markdown | html
//!  └─▶ --json FILE ──▶ --from FILE ─┘
//! ```
//!
//! What measures lies elsewhere: `vcmdq-measure` inside one process, `kvm-roundtrip` in a guest under
//! KVM. A missed goal is a finding and no failure; exit code 1 says that a measurement failed.

mod args;
mod figures;
mod goals;
mod headline;
mod html;
mod load;
mod machine;
mod markdown;
mod plot;
mod results;
mod run;
mod show;
#[cfg(test)]
mod testing;
mod text;
mod view;

pub(crate) use args::BenchArgs;

use crate::error::ToolError;
use crate::output;
use crate::progress::Progress;
use std::path::Path;
use std::process::ExitCode;

/// Measures, writes the page and prints the tables.
pub(crate) fn main(args: &BenchArgs) -> Result<ExitCode, ToolError> {
    let results = match &args.from {
        Some(file) => results::read(file)?,
        None => {
            let progress = Progress::new(false);
            let results = run::measure(args, &progress);
            progress.clear();
            results
        }
    };
    // Before anything is drawn: minutes of measuring must not be lost.
    let kept = match &args.json {
        Some(file) => write(file, &serde_json::to_string(&results)?),
        None => Ok(()),
    };
    let view = show::view(&results);
    let page = html::page(&view).map_err(ToolError::Draw);
    // A file that has no place takes no tables with it, nor does a reader of them who leaves take the page.
    let drawn = page.and_then(|page| write(&args.html, &page));
    let mut out = output::stdout();
    if args.markdown {
        markdown::write(&mut out, &view)?;
    } else {
        text::write(&mut out, &view)?;
    }
    output::finish(out)?;
    kept.and(drawn)?;
    output::remark(&format!("the page: {}", args.html.display()));
    Ok(if results.failures.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Writes a file, and the directory that it lies in if that is missing.
fn write(path: &Path, text: &str) -> Result<(), ToolError> {
    let directory = path.parent().filter(|dir| !dir.as_os_str().is_empty());
    directory
        .map_or(Ok(()), std::fs::create_dir_all)
        .and_then(|()| std::fs::write(path, text))
        .map_err(|source| ToolError::Write {
            path: path.to_owned(),
            source,
        })
}

//! What unwind tables of files cost: `cargo run --release --example unwind_stats -- FILE...`

use std::{env, fs, path::Path, time::Instant};

use anyhow::{Context, Result};
use memtrace::unwind::{
    compile::{CompileStats, ObjectRows, compile},
    table::{Limits, ObjectKey, Tables},
};

fn main() -> Result<()> {
    let mut tables = Tables::new(Limits::DEFAULT);
    let (mut text_bytes, mut seconds) = (0, 0.0);
    println!("  text MB   FDEs    rows   kept  kept/MB  rules     ms  file");
    for path in env::args_os().skip(1) {
        let path = Path::new(&path);
        let file = fs::read(path).with_context(|| path.display().to_string())?;
        let start = Instant::now();
        let object = match compile(&file) {
            Ok(object) => object,
            Err(error) => {
                println!("{}: {error}", path.display());
                continue;
            }
        };
        add(&mut tables, path, &object)?;
        let taken = start.elapsed().as_secs_f64();
        print(path, &object.stats, taken);
        text_bytes += object.stats.text_bytes;
        seconds += taken;
    }
    println!(
        "{:.1} MB of text: {} rows, {} pages, {} rules, {} bytes in {:.3} s",
        text_bytes as f64 / 1e6,
        tables.rows().len(),
        tables.index().len(),
        tables.rules().len(),
        tables.size_bytes(),
        seconds
    );
    Ok(())
}

fn add(tables: &mut Tables, path: &Path, object: &ObjectRows) -> Result<()> {
    let key = ObjectKey::BuildId(path.as_os_str().as_encoded_bytes().into());
    tables.add_object(key, object).with_context(|| path.display().to_string())?;
    Ok(())
}

fn print(path: &Path, stats: &CompileStats, seconds: f64) {
    let text_mb = stats.text_bytes as f64 / 1e6;
    println!(
        "{text_mb:>9.2} {:>6} {:>7} {:>6} {:>8.0} {:>6} {:>6.1}  {}",
        stats.fdes,
        stats.rows_before,
        stats.rows,
        stats.rows as f64 / text_mb,
        stats.rules,
        seconds * 1e3,
        path.file_name().unwrap_or_default().display()
    );
    for (reason, count) in &stats.unsupported {
        println!("          {count} x {reason}");
    }
}

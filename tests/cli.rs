//! The command line as a user meets it: texts, exit statuses, records.
#![cfg(feature = "cli")]

mod cli_common;

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Command, Stdio};

use cli_common::{PROGRAM, Workplace, numbers};
use serde_json::Value;

#[test]
fn every_command_explains_itself() {
    let place = Workplace::empty();
    for command in ["", "run", "check", "plan", "explain", "bench"] {
        let mut args: Vec<&str> = command.split_whitespace().collect();
        args.push("--help");
        let name = format!("help_{}", if command.is_empty() { "hesn" } else { command });
        insta::assert_snapshot!(name, place.hesn(&args).succeeds());
    }
    assert!(place.hesn(&["--version"]).succeeds().contains(env!("CARGO_PKG_VERSION")));
}

#[test]
fn wrong_usage_ends_with_status_2() {
    let place = Workplace::with_program(PROGRAM);
    let cases: &[&[&str]] = &[
        &[],
        &["train", "p.hes"],
        &["run"],
        &["run", "p.hes", "--fast"],
        &["run", "p.hes", "--engine", "quantum"],
        &["run", "p.hes", "--steps", "0"],
        &["run", "p.hes", "--epochs", "-1"],
        &["run", "p.hes", "--seed", "x"],
        &["run", "p.hes", "--memory", "8 elephants"],
        &["run", "p.hes", "--profile", "turbo"],
        &["check"],
        &["plan", "p.hes", "--json", "--dot"],
        &["bench", "--color", "pink"],
        &["bench", "p.hes", "--profile", "standard"],
        &["bench", "--steps", "2"],
    ];
    for args in cases {
        let ended = place.hesn(args);
        assert_eq!(ended.status, Some(2), "{args:?}: {}", ended.stderr);
        assert!(ended.stderr.contains("Usage:") || ended.stderr.contains("--help"), "{}", ended.stderr);
        assert_eq!(ended.stdout, "");
    }
    insta::assert_snapshot!("unknown_option", place.hesn(&["run", "p.hes", "--engin", "clear"]).stderr);
}

#[test]
fn weights_do_not_replace_their_program() {
    let place = Workplace::with_program(PROGRAM);
    let ended = place.hesn(&["run", "p.hes", "--engine", "clear", "--out", "p.hes"]);
    assert_eq!(ended.status, Some(1));
    assert!(ended.stderr.contains("this is the program itself"), "{}", ended.stderr);
    assert_eq!(place.hesn(&["check", "p.hes"]).succeeds(), "p.hes: no errors\n");
    let ended = place.hesn(&["run", "p.hes", "--engine", "clear", "--out", "./d.csv"]);
    assert!(
        ended.status == Some(1) && ended.stderr.contains("this is data of the program"),
        "{}",
        ended.stderr
    );
    assert_eq!(fs::read_to_string(place.path("d.csv")).unwrap(), numbers());
}

#[test]
fn weights_are_those_of_one_training() {
    let place = Workplace::with_program("fn f(x: [2]) -> [2] { tanh(x) }\neval f(x: uniform(-1, 1))\n");
    let ended = place.hesn(&["run", "p.hes", "--engine", "clear", "--out", "w.json"]);
    assert_eq!((ended.status, ended.stdout.as_str()), (Some(1), ""));
    assert!(ended.stderr.contains("E0617") && ended.stderr.contains("trains nothing"), "{}", ended.stderr);
    let train = PROGRAM.lines().skip_while(|line| !line.starts_with("train")).collect::<Vec<_>>().join("\n");
    let place = Workplace::with_program(format!("{PROGRAM}{train}\n"));
    let ended = place.hesn(&["run", "p.hes", "--engine", "clear", "--out", "w.json"]);
    assert_eq!((ended.status, ended.stdout.as_str()), (Some(1), ""));
    assert!(ended.stderr.contains("E0617") && ended.stderr.contains("2 trainings"), "{}", ended.stderr);
}

#[test]
fn of_steps_and_epochs_the_first_ends_a_run() {
    let place = Workplace::with_program(PROGRAM);
    for (steps, epochs, taken) in [("7", "3", 3), ("2", "3", 2)] {
        let args = ["run", "p.hes", "--engine", "clear", "--json", "--steps", steps, "--epochs", epochs];
        let out = place.hesn(&args).succeeds();
        let done: Value = serde_json::from_str(out.lines().last().unwrap()).unwrap();
        assert_eq!(done["steps"], taken, "{done}");
    }
}

#[test]
fn a_layer_without_units_is_refused() {
    let place = Workplace::with_program(PROGRAM.replace("dense(1)", "dense(0)"));
    let ended = place.hesn(&["check", "p.hes"]);
    assert_eq!(ended.status, Some(1));
    assert!(
        ended.stdout.contains("at least one") || ended.stderr.contains("at least one"),
        "{}",
        ended.all()
    );
}

#[test]
fn a_program_that_cannot_be_measured_is_named() {
    let ended = Workplace::empty().hesn(&["bench", "nothing.hes"]);
    assert_eq!((ended.status, ended.stdout.as_str()), (Some(1), ""));
    assert!(
        ended.stderr.contains("E0601") && ended.stderr.contains("error: nothing.hes"),
        "{}",
        ended.stderr
    );
}

#[test]
fn explain_knows_every_code_and_suggests_near_ones() {
    let place = Workplace::empty();
    let page = place.hesn(&["explain", "e0604"]).succeeds();
    assert!(page.starts_with("# E0604"), "{page}");
    let list = place.hesn(&["explain"]).succeeds();
    assert!(list.lines().count() > 20 && list.lines().all(|line| line.len() > 8), "{list}");
    let unknown = place.hesn(&["explain", "E06O4"]);
    assert_eq!(unknown.status, Some(1));
    assert!(unknown.stderr.contains("Did you mean E0604?"), "{}", unknown.stderr);
}

#[test]
fn check_reports_each_file_and_fails_if_one_fails() {
    let place = Workplace::with_program(PROGRAM);
    place.write("wrong.hes", PROGRAM.replace("dense(1)", "desne(1)"));
    let good = place.hesn(&["check", "p.hes"]);
    assert_eq!(good.succeeds(), "p.hes: no errors\n");
    let ended = place.hesn(&["check", "wrong.hes", "p.hes"]);
    assert_eq!(ended.status, Some(1));
    insta::assert_snapshot!("check_two_files", ended.all());
}

#[test]
fn check_gives_scripts_one_object_per_diagnostic() {
    let place = Workplace::with_program(PROGRAM.replace("label: y", "label: z"));
    let ended = place.hesn(&["check", "p.hes", "--json"]);
    assert_eq!((ended.status, ended.stderr.as_str()), (Some(1), ""));
    let objects: Vec<Value> = ended.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(objects.len(), 1);
    let object = &objects[0];
    assert_eq!(object["code"], "E0217");
    assert_eq!(object["severity"], "error");
    assert!(object["message"].is_string() && object["help"].is_string());
    let label = &object["labels"][0];
    assert_eq!(label["file"], "p.hes");
    let line = PROGRAM.lines().position(|line| line.starts_with("data")).unwrap() + 1;
    assert_eq!(label["line"], line);
    let (start, end) = (label["start"].as_u64().unwrap() as usize, label["end"].as_u64().unwrap() as usize);
    assert_eq!(&PROGRAM.replace("label: y", "label: z")[start..end], "z");
    assert!(label["column"].is_u64() && label["text"].is_string());
}

#[test]
fn check_shows_types_where_asked() {
    let place = Workplace::with_program(PROGRAM);
    let types = place.hesn(&["check", "p.hes", "--types"]).succeeds();
    assert!(types.contains("bfv<0>") && types.contains("derivative of"), "{types}");
    assert!(types.contains("±16 (from the number of features)") && types.contains("(weights)"), "{types}");
}

/// What a person sees of programs that cannot even be read.
#[test]
fn programs_that_cannot_be_read_are_named_with_a_remedy() {
    let place = Workplace::with_program(PROGRAM);
    place.write("latin1.hes", b"data d = csv(\"d.csv\")\n// caf\xe9\n");
    place.write("empty.hes", "");
    fs::create_dir(place.path("folder.hes")).unwrap();
    let mut report = String::new();
    for file in ["q.hes", "nowhere/p.hes", "latin1.hes", "folder.hes"] {
        let ended = place.hesn(&["run", file]);
        assert_eq!(ended.status, Some(1), "{file}");
        report += &ended.all();
    }
    insta::assert_snapshot!("unreadable_programs", report);
    let empty = place.hesn(&["run", "empty.hes"]);
    assert_eq!(empty.status, Some(1));
    assert!(
        empty.stderr.contains("E0614") && empty.stderr.contains("train MODEL on DATA"),
        "{}",
        empty.stderr
    );
}

#[test]
fn bad_data_is_named_with_file_line_and_remedy() {
    let good = numbers();
    let line = good.lines().nth(3).unwrap().to_owned();
    let cases: &[(&str, Vec<u8>)] = &[
        ("ragged", good.replacen(&line, "0.5,1", 1).into()),
        ("not_a_number", good.replacen(&line, "0.5,abc,1", 1).into()),
        ("nan", good.replacen(&line, "0.5,NaN,1", 1).into()),
        ("empty", Vec::new()),
        ("header_only", "a,b,y\n".into()),
        ("not_utf8", [good.as_bytes(), b"0.5,\xff,1\n"].concat()),
    ];
    for (name, bytes) in cases {
        let place = Workplace::with_program(PROGRAM);
        place.write("d.csv", bytes);
        let ended = place.hesn(&["run", "p.hes", "--engine", "clear"]);
        assert_eq!((ended.status, ended.stdout.as_str()), (Some(1), ""), "{name}: {}", ended.stderr);
        insta::assert_snapshot!(format!("bad_data_{name}"), ended.stderr);
    }
    let place = Workplace::with_program(PROGRAM.replace("d.csv", "dd.csv"));
    let missing = place.hesn(&["run", "p.hes"]);
    assert_eq!(missing.status, Some(1));
    insta::assert_snapshot!("bad_data_missing", missing.stderr);
    let place = Workplace::with_program(PROGRAM.replace("label: y", "label: y, classes: 1"));
    let range = place.hesn(&["run", "p.hes"]);
    assert_eq!(range.status, Some(1));
    insta::assert_snapshot!("bad_data_label_out_of_range", range.stderr);
}

#[test]
fn a_hundred_thousand_parentheses_are_an_error_and_no_crash() {
    let deep = format!("{}{}{}", "(".repeat(100_000), "x", ")".repeat(100_000));
    let place = Workplace::with_program(PROGRAM.replace("x |> dense(1)", &deep));
    let ended = place.hesn(&["check", "p.hes", "--json"]);
    assert_eq!(ended.status, Some(1), "{}", ended.stderr);
    let first: Value = serde_json::from_str(ended.stdout.lines().next().unwrap()).unwrap();
    assert!(first["code"].as_str().unwrap().starts_with("E01"), "{first}");
    assert_eq!(first["labels"][0]["line"], 6);
}

#[test]
fn what_is_too_large_for_memory_is_refused_before_it_runs() {
    let place = Workplace::with_program(PROGRAM);
    let ended = place.hesn(&["run", "p.hes", "--memory", "1MiB"]);
    assert_eq!(ended.status, Some(1));
    assert!(
        ended.stderr.contains("E0616") && ended.stderr.contains("`--memory` allows 1.0 MiB"),
        "{}",
        ended.stderr
    );
    // No smaller program would do.
    assert!(ended.stderr.contains("the keys of `tfhe` alone take"), "{}", ended.stderr);
    let huge = PROGRAM.replace("dense(1)", "dense(90000) |> relu |> dense(90000) |> relu |> dense(1)");
    let place = Workplace::with_program(huge.replace("std::{dense,", "std::{dense, relu,"));
    let ended = place.hesn(&["run", "p.hes"]);
    assert_eq!((ended.status, ended.stdout.as_str()), (Some(1), ""), "{}", ended.stderr);
    assert!(ended.stderr.contains("p.hes:"), "{}", ended.stderr);
}

fn records(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The sum of a record's parts.
fn seconds(parts: &Value) -> f64 {
    parts.as_object().unwrap().values().map(|part| part.as_f64().unwrap()).sum()
}

#[test]
fn a_run_gives_scripts_steps_epochs_and_a_last_record() {
    let place = Workplace::with_program(PROGRAM);
    for engine in ["clear", "simulate"] {
        let ended = place.hesn(&["run", "p.hes", "--engine", engine, "--compare", "--json", "--epochs", "3"]);
        let records = records(&ended.succeeds());
        let events: Vec<&str> = records.iter().map(|r| r["event"].as_str().unwrap()).collect();
        assert_eq!(events, ["step", "epoch", "step", "epoch", "step", "epoch", "done"]);
        assert_eq!((&records[2]["step"], &records[2]["epoch"]), (&Value::from(2), &Value::from(2)));
        assert!(records[1]["test_accuracy"].is_f64());
        let done = records.last().unwrap();
        assert_eq!(
            (&done["engine"], &done["steps"], &done["epochs"]),
            (&engine.into(), &3.into(), &3.into())
        );
        for field in ["test_accuracy", "train_accuracy", "clear_accuracy"] {
            let accuracy = done[field].as_f64().unwrap();
            assert!((0.5..=1.0).contains(&accuracy), "{field}: {accuracy}");
        }
        for field in ["setup_seconds", "train_seconds"] {
            assert!(done[field].as_f64().unwrap() >= 0.0);
        }
        assert!(done["luts"].is_u64() && done["peak_memory_bytes"].is_u64());
        assert!(done.as_object().unwrap().contains_key("parameters"));
    }
}

#[test]
fn a_run_shows_people_a_summary_and_keeps_the_way_there_on_standard_error() {
    let place = Workplace::with_program(PROGRAM);
    let ended = place.hesn(&["run", "p.hes", "--engine", "simulate", "--compare"]);
    let text = ended.succeeds();
    for word in
        ["M on d: trained in simulation", "test accuracy", "in the clear", "steps", "look-ups", "training"]
    {
        assert!(text.contains(word), "{word} in {text}");
    }
    assert!(!text.contains('\u{1b}'), "no colours in a pipe");
    assert!(ended.stderr.contains("epoch") && ended.stderr.contains("2/2"), "{}", ended.stderr);
}

#[test]
fn steps_and_seeds_rule_a_run() {
    let place = Workplace::with_program(PROGRAM.replace("batch: all", "batch: 4"));
    let weights = |args: &[&str]| {
        let all = [&["run", "p.hes", "--engine", "clear", "--json", "--out", "w.json"], args].concat();
        let records = records(&place.hesn(&all).succeeds());
        let file: Value = serde_json::from_str(&fs::read_to_string(place.path("w.json")).unwrap()).unwrap();
        (records.last().unwrap()["steps"].as_u64().unwrap(), file)
    };
    let (steps, file) = weights(&["--steps", "3"]);
    assert_eq!(steps, 3);
    assert_eq!((&file["model"], &file["steps"]), (&"M".into(), &3.into()));
    assert_eq!(file["scaler"]["scale"], "standard");
    assert_eq!(file["classes"], serde_json::json!(["0", "1"]));
    let shapes: Vec<&Value> = file["parameters"].as_array().unwrap().iter().map(|p| &p["shape"]).collect();
    assert_eq!(shapes, [&serde_json::json!([2, 1]), &serde_json::json!([1])]);
    assert_eq!(weights(&["--steps", "3"]), (3, file.clone()), "the same seed gives the same weights");
    assert_ne!(weights(&["--steps", "3", "--seed", "1"]).1, file, "another seed shuffles otherwise");
    let leftovers = fs::read_dir(place.path("")).unwrap().count();
    assert_eq!(leftovers, 3, "program, data and weights");
}

#[test]
fn weights_that_cannot_be_written_are_an_error() {
    let place = Workplace::with_program(PROGRAM);
    let ended = place.hesn(&["run", "p.hes", "--engine", "clear", "--out", "nowhere/w.json"]);
    assert_eq!(ended.status, Some(1));
    assert!(ended.stderr.contains("E0617") && ended.stderr.contains("nowhere/w.json"), "{}", ended.stderr);
}

#[test]
fn a_profile_of_the_other_scheme_is_refused() {
    let place = Workplace::with_program(PROGRAM);
    for (scheme, profile) in [("tfhe", "ring-31"), ("ckks", "standard")] {
        let ended = place.hesn(&["plan", "p.hes", "--scheme", scheme, "--profile", profile]);
        assert_eq!(ended.status, Some(1));
        assert!(ended.stderr.contains("E0618") && ended.stderr.contains(profile), "{}", ended.stderr);
    }
}

#[test]
fn colours_come_where_they_are_wanted() {
    let place = Workplace::with_program(PROGRAM.replace("label: y", "label: z"));
    assert!(!place.hesn(&["check", "p.hes"]).stderr.contains('\u{1b}'));
    assert!(place.hesn(&["check", "p.hes", "--color", "always"]).stderr.contains('\u{1b}'));
}

#[test]
fn the_graph_is_drawn_for_graphviz() {
    let place = Workplace::with_program(PROGRAM);
    let dot = place.hesn(&["plan", "p.hes", "--dot"]).succeeds();
    assert!(dot.starts_with("digraph") && dot.contains("->") && dot.trim_end().ends_with('}'), "{dot}");
}

#[test]
fn a_plan_gives_scripts_everything_before_anything_runs() {
    let place = Workplace::with_program(PROGRAM);
    let records = records(&place.hesn(&["plan", "p.hes", "--json"]).succeeds());
    assert_eq!(records.len(), 1);
    let numbers = [
        "luts_per_step",
        "products_per_step",
        "step_seconds",
        "memory_bytes",
        "data_memory_bytes",
        "batches",
        "key_bytes",
        "ciphertext_bytes_per_sample",
        "lut_input_error",
        "range_excess_probability",
        "failure_probability",
    ];
    for field in numbers {
        assert!(records[0][field].as_f64().is_some_and(|x| x >= 0.0), "{field} in {}", records[0]);
    }
    assert_eq!(records[0]["alignments"], 0);
    assert!(records[0]["alignments_naive"].is_u64() && records[0]["weight_bytes"].as_u64() > Some(0));
    let parts = seconds(&records[0]["stage_seconds"]);
    assert!((parts / records[0]["step_seconds"].as_f64().unwrap() - 1.0).abs() < 1e-9, "{}", records[0]);
    assert!(records[0]["parameters"]["security_bits"].as_f64().unwrap() >= 128.0);
}

#[test]
fn a_small_program_trains_encrypted_from_the_command_line() {
    let place = Workplace::with_program(PROGRAM);
    let args = ["run", "p.hes", "--steps", "1", "--compare", "--json", "--memory", "64GiB"];
    let records = records(&place.hesn(&args).succeeds());
    let done = records.last().unwrap();
    assert_eq!((&done["event"], &done["engine"]), (&"done".into(), &"encrypted".into()));
    // What a step is made of adds up to its time.
    let step = &records[0];
    assert_eq!(step["event"], "step");
    let (parts, whole) = (seconds(&step["stage_seconds"]), step["seconds"].as_f64().unwrap());
    assert!((parts / whole - 1.0).abs() < 1e-3, "{parts} of {whole}");
    assert!(
        done["ciphertext_bytes_per_sample"].as_f64() > Some(0.0) && done["weight_bytes"].as_u64() > Some(0)
    );
    let (encrypted, clear) =
        (done["test_accuracy"].as_f64().unwrap(), done["clear_accuracy"].as_f64().unwrap());
    assert!((encrypted - clear).abs() < 0.26, "{encrypted} against {clear}: one test sample at most");
    assert!(done["luts"].as_u64().unwrap() >= 8);
    assert!(done["parameters"]["security_bits"].as_f64().unwrap() >= 128.0);
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let place = Workplace::with_program(PROGRAM);
    for args in [vec!["explain"], vec!["run", "p.hes", "--engine", "clear", "--json", "--epochs", "2000"]] {
        let mut child = place.command(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let mut errors = String::new();
        child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0), "{args:?}: {errors}");
        assert!(!errors.contains("panicked"), "{errors}");
    }
}

#[cfg(unix)]
#[test]
fn ctrl_c_stops_a_run_with_status_130() {
    let place = Workplace::with_program(PROGRAM);
    let mut child = place
        .command(&["run", "p.hes", "--engine", "clear", "--epochs", "100000000", "--out", "w.json", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut errors = BufReader::new(child.stderr.take().unwrap());
    let mut results = child.stdout.take().unwrap();
    // A pipe that nobody empties would stop the run.
    let out = std::thread::spawn(move || {
        let mut text = String::new();
        results.read_to_string(&mut text).map(|_| text).unwrap()
    });
    let mut line = String::new();
    while !line.contains("1/100000000") {
        line.clear();
        assert_ne!(errors.read_line(&mut line).unwrap(), 0, "the run ended by itself");
    }
    let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    let mut rest = String::new();
    errors.read_to_string(&mut rest).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(rest.lines().last().unwrap().starts_with("interrupted after"), "{rest}");
    assert!(rest.contains("Ctrl-C again stops at once"), "{rest}");
    let last: Value = serde_json::from_str(out.join().unwrap().lines().last().unwrap()).unwrap();
    assert!(last["event"] == "interrupted" && last["steps"].as_u64() >= Some(1), "{last}");
    let file: Value = serde_json::from_str(&fs::read_to_string(place.path("w.json")).unwrap()).unwrap();
    assert!(file["steps"].as_u64().unwrap() >= 1, "the weights of the last whole step are kept");
}

//! Arrays, PNG rows, gzipped tables and subsets: good files, and every bad one.

use std::fs;
use std::io::{Cursor, Write as _};

use proptest::prelude::*;

use super::tests::{all, at, csv_spec, gzip, images, labels, read_with, wrong};
use super::*;
use crate::typeck::data_spec::Outcome;

type Files = Vec<(String, Vec<u8>)>;

/// A NumPy array as `numpy.save` writes it.
fn npy(descr: &str, shape: &str, data: &[u8]) -> Vec<u8> {
    let mut header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
    while !(header.len() + 11).is_multiple_of(64) {
        header.push(' ');
    }
    header.push('\n');
    [b"\x93NUMPY\x01\x00", &(header.len() as u16).to_le_bytes()[..], header.as_bytes(), data].concat()
}

/// An archive as `numpy.savez_compressed` writes it.
fn npz(files: &Files) -> Vec<u8> {
    let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in files {
        archive.start_file(name.as_str(), zip::write::SimpleFileOptions::default()).unwrap();
        archive.write_all(bytes).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

/// An image of the given size, `channels` bytes to a pixel.
fn image(width: u32, height: u32, color: ::png::ColorType, data: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = ::png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(color);
    encoder.set_depth(::png::BitDepth::Eight);
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(data).unwrap();
    drop(writer);
    bytes
}

fn spec_of(format: DataFormat, path: &str) -> DataSpec {
    DataSpec { format, path: at(path.into(), 1), outcome: Outcome::Implied, split: None, ..csv_spec("") }
}

/// Loads a folder `d` of files.
fn read_folder(files: &Files, spec: &DataSpec) -> Result<Dataset, Diagnostic> {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("d")).unwrap();
    for (name, bytes) in files {
        fs::write(folder.path().join("d").join(name), bytes).unwrap();
    }
    load(spec, folder.path()).map_err(|mut diagnostic| {
        let shown = folder.path().display().to_string();
        diagnostic.help = diagnostic.help.map(|help| help.replace(&shown, "FOLDER"));
        diagnostic
    })
}

/// Four samples of two numbers in `x.npy` and `y.npy`, after a change.
fn arrays() -> Files {
    let numbers: Vec<u8> = (1..=8).flat_map(|x| (x as f32).to_le_bytes()).collect();
    let classes: Vec<u8> = [3i64, 5, 3, 5].into_iter().flat_map(i64::to_le_bytes).collect();
    vec![("x.npy".into(), npy("<f4", "(4, 2)", &numbers)), ("y.npy".into(), npy("<i8", "(4,)", &classes))]
}

/// The same data as a folder and as an archive must give the same.
fn arrays_with(change: impl FnOnce(&mut Files), spec: impl Fn(&mut DataSpec)) -> Result<Dataset, Diagnostic> {
    let mut files = arrays();
    change(&mut files);
    let (mut folder, mut archive) = (spec_of(DataFormat::Npy, "d"), spec_of(DataFormat::Npz, "d/a.npz"));
    spec(&mut folder);
    spec(&mut archive);
    let one = read_folder(&files, &folder);
    let zipped = read_folder(&vec![("a.npz".into(), npz(&files))], &archive);
    match (&one, &zipped) {
        (Ok(one), Ok(zipped)) => assert_eq!((&one.train, &one.test), (&zipped.train, &zipped.test)),
        (Err(one), Err(zipped)) => assert_eq!(one.code, zipped.code),
        _ => panic!("{one:?} {zipped:?}"),
    }
    one
}

#[test]
fn arrays_are_split_by_a_fraction_or_by_their_names() {
    let data = arrays_with(|_| {}, |_| {}).unwrap();
    assert_eq!((data.train.len, data.test.len, &data.shape[..]), (3, 1, &[2][..]));
    assert_eq!(all(&data.test), [7.0, 8.0]);
    assert_eq!(data.classes, ["3", "5"]);
    // The names of keras' archives, and those of medmnist's.
    let renamed = |names: [&'static str; 4]| {
        move |files: &mut Files| {
            *files = names
                .iter()
                .zip([0, 1, 0, 1])
                .map(|(name, k)| (format!("{name}.npy"), arrays()[k].1.clone()))
                .collect();
        }
    };
    let data = arrays_with(renamed(["x_train", "y_train", "x_test", "y_test"]), |s| s.test = Some(at(1, 5)))
        .unwrap();
    assert_eq!((data.train.len, all(&data.test)), (4, vec![1.0, 2.0]));
    let named = renamed(["train_images", "train_labels", "test_images", "test_labels"]);
    let data = arrays_with(named, |spec| {
        spec.features = vec![at("images".into(), 5)];
        spec.outcome = Outcome::Class(at("labels".into(), 6));
    })
    .unwrap();
    assert_eq!((data.train.len, data.test.len), (4, 4));
}

#[test]
fn bytes_stay_bytes_and_are_scaled_as_images_are() {
    let data = arrays_with(
        |files| files[0].1 = npy("|u1", "(4, 1, 2)", &[0, 51, 102, 255, 0, 0, 255, 0]),
        |spec| spec.scale = at(Scale::Unit, 3),
    )
    .unwrap();
    assert_eq!(data.shape, [1, 2]);
    assert_eq!(all(&data.train)[..4], [0.0, 0.2, 0.4, 1.0]);
    assert_eq!(data.schema(&spec_of(DataFormat::Npy, "d")).range, Some((0.0, 1.0)));
}

#[test]
fn an_array_of_targets_is_a_regression() {
    let data = arrays_with(
        |files| files[1].1 = npy(">i2", "(4, 1)", &[0, 10, 0, 30, 0, 20, 255, 246]),
        |spec| {
            spec.outcome = Outcome::Number(at("y".into(), 2));
            spec.split = Some(at(0.5, 3));
        },
    )
    .unwrap();
    assert_eq!(data.train.labels, Labels::Numbers(vec![-1.0, 1.0]));
    assert_eq!(data.test.labels, Labels::Numbers(vec![0.0, -3.0]));
}

#[test]
fn every_bad_array_says_what_is_wrong() {
    type Case = (&'static str, fn(&mut Files), fn(&mut DataSpec));
    let same: fn(&mut DataSpec) = |_| {};
    let cases: &[Case] = &[
        ("no labels", |f| drop(f.pop()), same),
        ("nothing", Vec::clear, same),
        ("a name that is near", |_| {}, |s| s.features = vec![at("xx".into(), 5)]),
        ("two features", |_| {}, |s| s.features = vec![at("x".into(), 5), at("y".into(), 6)]),
        (
            "labels for both, features for none",
            |f| f.retain(|(name, _)| name != "y.npy"),
            |s| {
                s.outcome = Outcome::Class(at("z".into(), 5));
            },
        ),
        (
            "parts and a whole",
            |f| {
                let y = f.pop().unwrap().1;
                f.extend([("y_train.npy".into(), y.clone()), ("y_test.npy".into(), y)]);
            },
            same,
        ),
        (
            "a split of what is split",
            |f| {
                let (x, y) = (f[0].1.clone(), f[1].1.clone());
                f.clear();
                f.extend(["x_train", "x_test"].map(|name| (format!("{name}.npy"), x.clone())));
                f.extend(["y_train", "y_test"].map(|name| (format!("{name}.npy"), y.clone())));
            },
            |s| s.split = Some(at(0.5, 5)),
        ),
        ("not an array", |f| f[0].1 = b"something else".to_vec(), same),
        ("empty", |f| f[0].1.clear(), same),
        ("cut off in the header", |f| f[0].1.truncate(40), same),
        ("cut off", |f| f[0].1.truncate(128 + 30), same),
        ("too long", |f| f[0].1.push(0), same),
        ("a version of the future", |f| f[0].1[6] = 9, same),
        ("a header of gigabytes", |f| f[0].1 = b"\x93NUMPY\x02\x00\xff\xff\xff\xff{".to_vec(), same),
        ("words", |f| f[1].1 = npy("<U3", "(4,)", &[0; 48]), same),
        ("16 bits", |f| f[0].1 = npy("<f2", "(4, 2)", &[0; 16]), same),
        (
            "fields",
            |f| {
                f[0].1 = b"\x93NUMPY\x01\x00\x50\x00{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (4,), }".to_vec();
                f[0].1.resize(90, b' ');
            },
            same,
        ),
        (
            "column by column",
            |f| {
                let at = f[0].1.windows(5).position(|w| w == b"False").unwrap();
                f[0].1[at..at + 5].copy_from_slice(b"True ");
            },
            same,
        ),
        ("a single number", |f| f[0].1 = npy("<f4", "()", &[0; 4]), same),
        ("no numbers", |f| f[0].1 = npy("<f4", "(4, 0)", &[]), same),
        ("a negative size", |f| f[0].1 = npy("<f4", "(-4, 2)", &[]), same),
        (
            "a promise of terabytes",
            |f| {
                f[0].1 = npy("|u1", "(4000000000, 60000000)", &[0; 64]);
                f[1].1 = npy("|u1", "(4000000000,)", &[0; 64]);
            },
            same,
        ),
        ("sizes that overflow", |f| f[0].1 = npy("|u1", "(4, 4294967296, 4294967296)", &[]), same),
        ("one-hot labels", |f| f[1].1 = npy("|u1", "(4, 2)", &[0; 8]), same),
        ("fewer labels", |f| f[1].1 = npy("|u1", "(3,)", &[0, 1, 0]), same),
        (
            "labels with fractions",
            |f| {
                f[1].1 = npy("<f4", "(4,)", &[1.0f32, 0.0, 0.5, 1.0].map(f32::to_le_bytes).concat());
            },
            same,
        ),
        (
            "NaN",
            |f| {
                let end = f[0].1.len();
                f[0].1[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
            },
            same,
        ),
        (
            "an infinite target",
            |f| {
                f[1].1 = npy("<f8", "(4,)", &[1.0, f64::INFINITY, 0.5, 1.0].map(f64::to_le_bytes).concat());
            },
            |s| s.outcome = Outcome::Number(at("y".into(), 5)),
        ),
        ("more than there are", |_| {}, |s| (s.train, s.test) = (Some(at(4, 5)), Some(at(1, 6)))),
    ];
    let mut report: String = cases
        .iter()
        .map(|(name, change, spec)| format!("{name}\n    {}\n", wrong(arrays_with(change, spec))))
        .collect();
    let npz_spec = spec_of(DataFormat::Npz, "d/a.npz");
    let archives: [(&str, Files, DataSpec); 5] = [
        ("not an archive", vec![("a.npz".into(), b"PK\x03\x04 not really".to_vec())], npz_spec.clone()),
        ("an empty archive", vec![("a.npz".into(), Vec::new())], npz_spec.clone()),
        ("no archive", vec![("b.npz".into(), Vec::new())], npz_spec),
        ("a folder as archive", arrays(), spec_of(DataFormat::Npz, "d")),
        ("an array as folder", arrays(), spec_of(DataFormat::Npy, "d/x.npy")),
    ];
    for (name, files, spec) in archives {
        report += &format!("{name}\n    {}\n", wrong(read_folder(&files, &spec)));
    }
    insta::assert_snapshot!(report);
}

/// Three training images in two files and one for testing, 2×2 pixels in colour, after a change.
fn png_with(
    change: impl FnOnce(&mut Files),
    spec: impl FnOnce(&mut DataSpec),
) -> Result<Dataset, Diagnostic> {
    let rgb = |rows: std::ops::Range<u8>| {
        let data: Vec<u8> = rows.clone().flat_map(|row| (0..12).map(move |i| 20 * row + i)).collect();
        image(4, rows.len() as u32, ::png::ColorType::Rgb, &data)
    };
    let mut files = vec![
        ("train-10.png".into(), rgb(2..3)),
        ("train-9.png".into(), rgb(0..2)),
        ("train.json".into(), b"[6, 9, 6]".to_vec()),
        ("test.png".into(), rgb(3..4)),
        ("test.json".into(), b"[9]".to_vec()),
    ];
    change(&mut files);
    let mut declaration = spec_of(DataFormat::Png, "d");
    spec(&mut declaration);
    read_folder(&files, &declaration)
}

#[test]
fn rows_of_pixels_are_images_channel_by_channel() {
    let data = png_with(|_| {}, |_| {}).unwrap();
    assert_eq!((data.train.len, data.test.len, &data.shape[..]), (3, 1, &[3, 2, 2][..]));
    assert_eq!(data.train.features(0..1), [0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11].map(|x| x as f32));
    assert_eq!(data.train.features(2..3)[0], 40.0, "train-9 comes before train-10");
    assert_eq!(data.train.labels, Labels::Classes(vec![0, 1, 0]));
    let fewer = png_with(|_| {}, |spec| spec.train = Some(at(2, 5))).unwrap();
    assert_eq!((fewer.train.len, fewer.test.len), (2, 1));
    let words = png_with(
        |f| (f[2].1, f[4].1) = (b"[\"frog\", \"truck\", \"frog\"]".into(), b"[\"truck\"]".into()),
        |_| {},
    );
    assert_eq!(words.unwrap().classes, ["frog", "truck"]);
    let grey = png_with(
        |f| {
            for k in [0, 1, 3] {
                f[k].1 = image(
                    5,
                    if k == 1 { 2 } else { 1 },
                    ::png::ColorType::Grayscale,
                    &[7; 10][..if k == 1 { 10 } else { 5 }],
                );
            }
        },
        |_| {},
    );
    assert_eq!(grey.unwrap().shape, [1, 1, 5], "5 pixels are no square");
}

#[test]
fn every_bad_folder_of_images_says_what_is_wrong() {
    type Case = (&'static str, fn(&mut Files), fn(&mut DataSpec));
    let same: fn(&mut DataSpec) = |_| {};
    let cases: &[Case] = &[
        ("no folder", |_| {}, |s| s.path.value = "e".into()),
        ("a file", |_| {}, |s| s.path.value = "d/test.png".into()),
        ("no images", |f| drop(f.remove(3)), same),
        ("no labels", |f| drop(f.remove(2)), same),
        ("two lists of labels", |f| f.push(("train-2.json".into(), b"[]".to_vec())), same),
        ("fewer labels than images", |f| f[2].1 = b"[1]".to_vec(), same),
        ("labels that are no list", |f| f[2].1 = b"{\"a\": 1}".to_vec(), same),
        ("labels with fractions", |f| f[2].1 = b"[1, 2, 0.5]".to_vec(), same),
        ("labels cut off", |f| f[2].1 = b"[1, 2".to_vec(), same),
        ("not an image", |f| f[0].1 = b"something else".to_vec(), same),
        ("empty", |f| f[0].1.clear(), same),
        ("cut off", |f| f[1].1.truncate(50), same),
        ("damaged", |f| f[0].1[45] ^= 0x55, same),
        ("transparent", |f| f[0].1 = image(4, 1, ::png::ColorType::Rgba, &[1; 16]), same),
        ("of another size", |f| f[0].1 = image(1, 1, ::png::ColorType::Rgb, &[1; 3]), same),
        ("grey for testing", |f| f[3].1 = image(4, 1, ::png::ColorType::Grayscale, &[1; 4]), same),
        (
            "a promise of gigabytes",
            |f| {
                // Width and height of the header, with its checksum.
                let mut header = b"IHDR".to_vec();
                header.extend([0x7f, 0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff, 8, 2, 0, 0, 0]);
                f[0].1.splice(12..29, header.iter().copied());
                let mut checksum = flate2::Crc::new();
                checksum.update(&header);
                f[0].1.splice(29..33, checksum.sum().to_be_bytes());
            },
            same,
        ),
        ("more than there are", |_| {}, |s| s.test = Some(at(2, 5))),
        ("a label", |_| {}, |s| s.outcome = Outcome::Class(at("y".into(), 5))),
    ];
    let report: String = cases
        .iter()
        .map(|(name, change, spec)| format!("{name}\n    {}\n", wrong(png_with(change, spec))))
        .collect();
    insta::assert_snapshot!(report);
}

#[test]
fn a_missing_data_set_is_fetched_by_the_script_that_offers_it() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("fetch.sh"), "#!/bin/sh\n#   cifar10   photographs\n").unwrap();
    let help = |path: &str| {
        let help = load(&spec_of(DataFormat::Png, path), folder.path()).unwrap_err().help.unwrap();
        help.replace(&folder.path().display().to_string(), "FOLDER")
    };
    assert_eq!(help("cifar10"), "`sh FOLDER/fetch.sh cifar10` puts it there");
    assert!(!help("cifar100").contains("fetch.sh cifar100"), "it does not offer that one");
}

#[test]
fn tables_may_be_gzipped() {
    let text = b"a,y\n1,0\n2,1\n3,0\n4,1\n";
    let plain = read_with(text, |_| {}).unwrap();
    assert_eq!(read_with(gzip(text), |_| {}).unwrap().train, plain.train, "told by how it begins");
    let mut cut = gzip(text);
    cut.truncate(cut.len() - 12);
    let mut damaged = gzip(text);
    damaged[3] ^= 0xe0;
    let report = [cut, damaged].map(|bytes| wrong(read_with(bytes, |_| {}))).join("\n");
    insta::assert_snapshot!(report);
}

#[test]
fn a_shuffled_subset_is_the_same_everywhere_and_keeps_rows_whole() {
    let text: String = (0..40).map(|i| format!("{i},{}\n", i / 20)).collect();
    let take = |subset| {
        read_with(format!("a,y\n{text}"), |spec| {
            (spec.subset, spec.split) = (subset, None);
            (spec.train, spec.test) = (Some(at(6, 5)), Some(at(4, 6)));
        })
    };
    // Sorted by class: the first rows have one only.
    assert!(take(Subset::First).is_err());
    let data = take(Subset::Shuffled).unwrap();
    let rows = [all(&data.train), all(&data.test)].concat();
    let classes = [&data.train.labels, &data.test.labels].map(|labels| match labels {
        Labels::Classes(classes) => classes.clone(),
        Labels::Numbers(_) => unreachable!(),
    });
    assert!(rows.iter().zip(classes.concat()).all(|(a, y)| u32::from(*a >= 20.0) == y), "{rows:?}");
    // Fixed for ever, like a seed.
    assert_eq!(rows[..4], SHUFFLED);
}

/// The first rows of forty.
const SHUFFLED: [f32; 4] = [13.0, 9.0, 24.0, 7.0];

#[test]
fn a_shuffled_subset_never_mixes_training_and_testing() {
    let data =
        png_with(|_| {}, |spec| (spec.subset, spec.train) = (Subset::Shuffled, Some(at(2, 5)))).unwrap();
    assert_eq!((data.train.len, data.test.len), (2, 1));
    assert!(all(&data.train).iter().all(|&x| x < 60.0) && all(&data.test).iter().all(|&x| x >= 60.0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn every_type_of_number_is_read_as_it_was_written(
        numbers in proptest::collection::vec(any::<i16>(), 1..20),
        kind in 0usize..9,
    ) {
        let (descr, write): (&str, fn(i16) -> Vec<u8>) = [
            ("<f4", (|x| f32::from(x).to_le_bytes().to_vec()) as fn(i16) -> Vec<u8>),
            (">f4", |x| f32::from(x).to_be_bytes().to_vec()),
            ("<f8", |x| f64::from(x).to_le_bytes().to_vec()),
            (">f8", |x| f64::from(x).to_be_bytes().to_vec()),
            ("<i2", |x| x.to_le_bytes().to_vec()),
            (">i2", |x| x.to_be_bytes().to_vec()),
            ("<i4", |x| i32::from(x).to_le_bytes().to_vec()),
            (">i8", |x| i64::from(x).to_be_bytes().to_vec()),
            ("<i8", |x| i64::from(x).to_le_bytes().to_vec()),
        ][kind];
        let bytes: Vec<u8> = numbers.iter().flat_map(|&x| write(x)).collect();
        let file = npy(descr, &format!("({}, 1)", numbers.len()), &bytes);
        let mut source = &file[..];
        let header = npy::header(&mut source).unwrap();
        let values = header.values(&mut source, numbers.len()).unwrap();
        prop_assert_eq!(values, Values::Numbers(numbers.iter().map(|&x| f32::from(x)).collect()));
    }

    #[test]
    fn damaged_files_give_data_or_a_diagnostic(
        place in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        cut in any::<prop::sample::Index>(),
        text in proptest::collection::vec(any::<u8>(), 0..100),
    ) {
        let damaged = |bytes: &[u8]| {
            let mut one = bytes.to_vec();
            if !one.is_empty() {
                one[place.index(bytes.len())] = byte;
            }
            [one, bytes[..cut.index(bytes.len() + 1)].to_vec(), [bytes, &text].concat(), text.clone()]
        };
        let files = arrays();
        let finite = |result: Result<Dataset, Diagnostic>| {
            result.map_or(true, |data| all(&data.train).iter().all(|x| x.is_finite()))
        };
        for k in 0..2 {
            for bytes in damaged(&files[k].1) {
                let mut files = files.clone();
                files[k].1 = bytes;
                prop_assert!(finite(read_folder(&files, &spec_of(DataFormat::Npy, "d"))));
            }
        }
        for bytes in damaged(&npz(&files)) {
            prop_assert!(finite(read_folder(&vec![("a.npz".into(), bytes)], &spec_of(DataFormat::Npz, "d/a.npz"))));
        }
        let small = image(4, 1, ::png::ColorType::Rgb, &[9; 12]);
        for bytes in damaged(&small) {
            let read = png_with(|files| files[0].1 = bytes, |_| {});
            prop_assert!(finite(read));
        }
        for bytes in damaged(b"[6, 9, 6]") {
            let read = png_with(|files| files[2].1 = bytes, |_| {});
            prop_assert!(finite(read));
        }
        for bytes in damaged(&gzip(b"a,y\n1,0\n2,1\n3,0\n4,1\n")) {
            let read = read_with(bytes, |_| {});
            prop_assert!(finite(read));
        }
        for bytes in damaged(&gzip(&images(1, 2, &[1, 2, 3, 4]))) {
            let files = vec![("train-images-idx3-ubyte.gz".into(), bytes), ("train-labels-idx1-ubyte".into(), labels(&[1]))];
            prop_assert!(read_folder(&files, &spec_of(DataFormat::Idx, "d")).is_err());
        }
    }
}

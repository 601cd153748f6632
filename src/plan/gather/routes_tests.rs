use super::*;

fn wanted(source: usize, from: u32, to: u32) -> Wanted {
    Wanted { source, from, to, negate: false }
}

#[test]
fn groups_that_look_alike_share_a_program() {
    // Three rings, each taken apart into four polynomials.
    let of = |ring: usize, part: u32| Target {
        wanted: (0..16).map(|i| wanted(ring, 4 * i + part, 4 * i)).collect(),
        clean: true,
    };
    let targets: Vec<Target> = (0..12).map(|t| of(2 - t / 4, t as u32 % 4)).collect();
    let routes = Routes::find(64, &targets, Dirt::At(&[true; 192])).unwrap();
    assert_eq!((routes.parts.len(), routes.switches()), (1, 9));
    // Two levels, each of which doubles what came before.
    assert_eq!(routes.noise().values().switches, 5.0);
    let ends = |source, targets: [u32; 4]| Ends { sources: vec![source], targets: targets.to_vec() };
    let expected = [ends(2, [0, 1, 2, 3]), ends(1, [4, 5, 6, 7]), ends(0, [8, 9, 10, 11])];
    assert_eq!(routes.parts[0].copies, expected);
}

#[test]
fn sources_that_are_clean_in_other_places_have_a_program_of_their_own() {
    let mut dirt = vec![true; 32];
    dirt[16..].iter_mut().enumerate().for_each(|(i, dirty)| *dirty = i % 2 == 0);
    let of = |source| Target { wanted: (0..8).map(|i| wanted(source, 2 * i, 2 * i)).collect(), clean: true };
    let routes = Routes::find(16, &[of(0), Target::default(), of(1)], Dirt::At(&dirt)).unwrap();
    let switches: Vec<usize> = routes.parts.iter().map(|part| part.program.switches()).collect();
    assert_eq!(switches, [1, 0]);
    assert_eq!(routes.targets, 3);
}

#[test]
fn targets_that_share_a_source_through_others_stay_together() {
    let of = |sources: [usize; 2]| Target {
        wanted: vec![wanted(sources[0], 0, 0), wanted(sources[1], 0, 8)],
        clean: false,
    };
    let routes = Routes::find(16, &[of([0, 1]), of([1, 2]), of([3, 4])], Dirt::Everywhere).unwrap();
    let copies: Vec<usize> = routes.parts.iter().map(|part| part.copies[0].targets.len()).collect();
    assert_eq!(copies, [2, 1]);
}

#[test]
fn an_error_names_the_target() {
    let twice = Target { wanted: vec![wanted(7, 1, 3), wanted(7, 2, 3)], clean: false };
    let error = Routes::find(16, &[Target::default(), Target::default(), twice], Dirt::Everywhere);
    let expected = "route: coefficient 3 of target 2 is wanted twice; add the two values first";
    assert_eq!(error.unwrap_err().to_string(), expected);
}

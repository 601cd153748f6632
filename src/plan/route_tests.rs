use super::*;
use proptest::prelude::*;

/// Plain polynomials modulo this prime stand for ciphertexts.
const P: u64 = 998_244_353;
const HALF: u64 = P.div_ceil(2);

type Polynomial = Vec<u64>;

fn shift(x: &[u64], by: u32) -> Polynomial {
    let n = x.len();
    let mut out = vec![0; n];
    for (i, &c) in x.iter().enumerate() {
        let e = (i + by as usize) % (2 * n);
        out[e % n] = if e < n { c } else { (P - c) % P };
    }
    out
}

fn automorphism(x: &[u64], g: usize) -> Polynomial {
    let n = x.len();
    let mut out = vec![0; n];
    for (i, &c) in x.iter().enumerate() {
        let e = i * g % (2 * n);
        out[e % n] = if e < n { c } else { (P - c) % P };
    }
    out
}

fn add(x: &[u64], y: &[u64]) -> Polynomial {
    x.iter().zip(y).map(|(a, b)| (a + b) % P).collect()
}

fn execute(program: &Program, sources: &[Polynomial]) -> Vec<Polynomial> {
    let n = sources[0].len();
    let mut made: Vec<Vec<Polynomial>> = Vec::new();
    let read = |value: Value, made: &[Vec<Polynomial>]| match value {
        Value::Source { index, halvings } => {
            let factor = (0..halvings).fold(1, |f, _| f * HALF % P);
            sources[index].iter().map(|c| c * factor % P).collect()
        }
        Value::Step { step, result } => made[step][result].clone(),
    };
    let place = |s: &Shifted, made: &[Vec<Polynomial>]| shift(&read(s.value, made), s.shift);
    for step in &program.steps {
        let results = match step {
            Step::Sum(terms) => vec![terms.iter().fold(vec![0; n], |sum, t| add(&sum, &place(t, &made)))],
            Step::Merge(merge) => {
                let even = read(merge.even, &made);
                let odd = merge.odd.map_or(vec![0; n], |o| place(&o, &made));
                let switched = automorphism(&add(&even, &shift(&odd, n as u32)), (n >> merge.level) + 1);
                let turned = |&t: &u32| {
                    add(&add(&even, &odd), &shift(&switched, (t as usize * (n >> merge.level)) as u32))
                };
                merge.turns.iter().map(turned).collect()
            }
            Step::Fold(fold) => {
                let moved = automorphism(&read(fold.moved, &made), (n >> fold.level) + 1);
                vec![add(&read(fold.kept, &made), &moved)]
            }
        };
        made.push(results);
    }
    program.outputs.iter().map(|o| o.map_or(vec![0; n], |s| place(&s, &made))).collect()
}

fn assert_routed(program: &Program, sources: &[Polynomial], targets: &[Target]) {
    for (target, got) in targets.iter().zip(execute(program, sources)) {
        let mut wanted = vec![None; got.len()];
        for w in &target.wanted {
            let value = sources[w.source][w.from as usize];
            let value = if w.negate { P - value } else { value };
            let slot = &mut wanted[w.to as usize];
            *slot = Some((slot.unwrap_or(0) + value) % P);
        }
        for (i, (got, wanted)) in got.into_iter().zip(wanted).enumerate() {
            match wanted {
                Some(value) => assert_eq!(got, value, "coefficient {i}"),
                None => assert!(!target.clean || got == 0, "coefficient {i} is {got} in a clean target"),
            }
        }
    }
}

fn dense(count: usize, degree: usize) -> Vec<Polynomial> {
    (0..count).map(|s| (0..degree).map(|i| (1 + 31 * s + 7 * i + i * i * s) as u64 % P).collect()).collect()
}

fn wanted(source: usize, from: u32, to: u32) -> Wanted {
    Wanted { source, from, to, negate: false }
}

fn everywhere(_: usize, _: u32) -> bool {
    true
}

#[test]
fn merging_costs_one_switch_less_than_its_sources() {
    let sources = dense(16, 64);
    for clean in [false, true] {
        let of = |s: usize| (0..4).map(move |i| wanted(s, 16 * i, 16 * i + s as u32));
        let targets = [Target { wanted: (0..16).flat_map(of).collect(), clean }];
        let program = route(64, &targets, &everywhere).unwrap();
        assert_eq!(program.switches(), 15);
        assert_routed(&program, &sources, &targets);
    }
}

#[test]
fn taking_interleaved_values_apart_costs_one_switch_less_than_the_targets() {
    let sources = dense(1, 64);
    let of = |p: u32| Target { wanted: (0..8).map(|i| wanted(0, 8 * i + p, 8 * i)).collect(), clean: true };
    let targets: Vec<Target> = (0..8).map(of).collect();
    let program = route(64, &targets, &everywhere).unwrap();
    assert_eq!(program.switches(), 7);
    assert_routed(&program, &sources, &targets);
    assert_eq!(route(64, &targets[3..4], &everywhere).unwrap().switches(), 3);
}

#[test]
fn two_polynomials_exchange_their_halves_with_one_switch() {
    let sources = dense(2, 32);
    let of = |odd: u32| Target {
        wanted: (0..32u32).map(|i| wanted((i % 2) as usize, (i & !1) + odd, i)).collect(),
        clean: true,
    };
    let targets = [of(0), of(1)];
    let program = route(32, &targets, &everywhere).unwrap();
    assert_eq!(program.switches(), 1);
    assert_routed(&program, &sources, &targets);
}

#[test]
fn what_is_alone_in_its_polynomial_is_only_shifted_and_added() {
    let mut sources = dense(2, 32);
    for (i, c) in sources[0].iter_mut().enumerate() {
        *c *= u64::from(i < 8);
    }
    for (i, c) in sources[1].iter_mut().enumerate() {
        *c *= u64::from((20..24).contains(&i));
    }
    let dirty = |s: usize, i: u32| if s == 0 { i < 8 } else { (20..24).contains(&i) };
    let first = (0..8).map(|i| wanted(0, i, i + 3));
    let second = (0..4).map(|i| wanted(1, i + 20, i + 12));
    let targets = [Target { wanted: first.chain(second).collect(), clean: true }];
    let program = route(32, &targets, &dirty).unwrap();
    assert_eq!(program.switches(), 0);
    assert_eq!(program.sources(), [0, 1]);
    assert_routed(&program, &sources, &targets);
}

#[test]
fn what_lies_side_by_side_is_taken_apart_for_all_targets_at_once() {
    // Two full sources, of which each target takes eight neighbours in reverse.
    let sources = dense(2, 256);
    let of = |t: u32| Target {
        wanted: (0..8).map(|i| wanted((t % 2) as usize, t / 2 * 8 + i, 40 + 7 - i)).collect(),
        clean: true,
    };
    let targets: Vec<Target> = (0..64).map(of).collect();
    let program = route(256, &targets, &everywhere).unwrap();
    // All but the last level of two trees, and one for each target.
    assert_eq!(program.switches(), 2 * 127 + 64);
    assert_eq!(program.terms(), 2 * 512);
    assert_routed(&program, &sources, &targets);
    // Where they hold nothing at odd places there is nothing to share but one trace each, which their noise needs.
    let even = |_: usize, c: u32| c.is_multiple_of(2);
    let half = |c: &u64, i: usize| if i.is_multiple_of(2) { *c } else { 0 };
    let sources: Vec<Polynomial> =
        sources.iter().map(|x| x.iter().enumerate().map(|(i, c)| half(c, i)).collect()).collect();
    let targets: Vec<Target> = targets
        .into_iter()
        .map(|t| Target { wanted: t.wanted.into_iter().filter(|w| w.from % 2 == 0).collect(), ..t })
        .collect();
    let program = route(256, &targets, &even).unwrap();
    assert_eq!(program.switches(), 2 * (1 + 63) + 64);
    assert_routed(&program, &sources, &targets);
}

#[test]
fn what_goes_to_the_same_place_is_added_up() {
    // Sixteen sums of eight values that lie side by side.
    let sources = dense(1, 128);
    let wanted = (0..128).map(|i| wanted(0, i, 3 * (i / 8))).collect();
    let targets = [Target { wanted, clean: true }];
    let program = route(128, &targets, &everywhere).unwrap();
    assert_eq!(program.switches(), 63 + 1);
    assert_routed(&program, &sources, &targets);
    // As merges they are built layer by layer.
    let few = [Target { wanted: targets[0].wanted[..4].to_vec(), clean: true }];
    assert_routed(&route(128, &few, &everywhere).unwrap(), &sources, &few);
}

#[test]
fn a_place_outside_the_ring_or_wanted_twice_is_refused() {
    let of = |wanted| [Target::default(), Target { wanted, clean: false }];
    let error = route(16, &of(vec![wanted(0, 16, 3)]), &everywhere).unwrap_err();
    assert_eq!(error.to_string(), "route: coefficient 16 of target 1 is out of bounds: valid is 0 to 15");
    let error = route(16, &of(vec![wanted(0, 1, 3), wanted(1, 2, 3)]), &everywhere).unwrap_err();
    assert_eq!(
        error.to_string(),
        "route: coefficient 3 of target 1 is wanted twice; add the two values first"
    );
}

/// Targets with a structure now and then: strides, blocks, single values.
fn targets(log_degree: u32, sources: usize) -> impl Strategy<Value = Vec<Target>> {
    let degree = 1u32 << log_degree;
    let run = (0..sources, 0..degree, 0..degree, 0..=log_degree, 1..=degree, any::<bool>());
    let target = (prop::collection::vec(run, 0..6), any::<bool>()).prop_map(move |(runs, clean)| {
        let mut taken = vec![false; degree as usize];
        let mut all = Vec::new();
        for (source, from, to, stride, count, negate) in runs {
            for i in 0..count {
                let step = i << stride;
                let (from, to) = ((from + step) % degree, (to + step) % degree);
                if !std::mem::replace(&mut taken[to as usize], true) || (clean && i % 5 == 0) {
                    all.push(Wanted { source, from, to, negate });
                }
            }
        }
        Target { wanted: all, clean }
    });
    prop::collection::vec(target, 1..4)
}

proptest! {
    #[test]
    fn every_value_arrives_and_clean_targets_hold_nothing_else(
        targets in targets(5, 3),
        zeros in prop::collection::vec(prop::collection::vec(any::<bool>(), 32), 3),
        are_sparse in any::<[bool; 3]>(),
    ) {
        let is_dirty = |s: usize, i: u32| !(are_sparse[s] && zeros[s][i as usize]);
        let mut sources = dense(3, 32);
        for (s, source) in sources.iter_mut().enumerate() {
            for (i, c) in source.iter_mut().enumerate() {
                *c *= u64::from(is_dirty(s, i as u32));
            }
        }
        let program = route(32, &targets, &is_dirty).unwrap();
        assert_routed(&program, &sources, &targets);
        // What was said to be zero is all that the route may rely on.
        let program = route(32, &targets, &everywhere).unwrap();
        assert_routed(&program, &sources, &targets);
        // Sums of parts do the same where they are not the cheapest.
        let clean: Vec<Target> = targets.iter().map(|t| Target { clean: true, ..t.clone() }).collect();
        for program in apart(32, &clean, &is_dirty).unwrap() {
            assert_routed(&program, &sources, &clean);
        }
    }
}

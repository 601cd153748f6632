//! Runs routing programs.
//!
//! A step starts when what it reads is there, and a polynomial is dropped after its last use. New steps are started before
//! waiting ones, so that a tree is worked off depth first: of many sources that are made on demand, few exist at a time. A sum
//! takes each of its terms as it comes, so that a tree whose leaves all go to the same few sums never exists at once either.

use super::{
    ciphertext::{SmallCiphertext, Sum, Term, halvings},
    keys::SmallKeys,
    program::{Fold, Merge, Program, Shifted, Step, Value},
    ring::{DEGREE, Width, merge_element},
    switch::{Switched, Switcher, Turned},
};
use crate::he::{
    error::HeError,
    ring::{arith::mulmod, buffer::Buffer},
};
use std::{
    borrow::Cow,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

type Made<'s> = Arc<Cow<'s, SmallCiphertext>>;

/// A polynomial and how often it will still be read.
#[derive(Default)]
struct Slot<'s> {
    value: Option<Made<'s>>,
    uses: usize,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A task: a source to be made, a step, a term of a step that is a sum (which then only has to be finished), or an output.
#[derive(Clone, Copy)]
enum Task {
    Source(usize),
    Step(usize),
    Term(usize, Shifted),
    Output(usize),
}

struct Run<'a, 's> {
    keys: &'a SmallKeys,
    width: Width,
    program: &'a Program,
    source: &'a (dyn Fn(usize) -> Result<Cow<'s, SmallCiphertext>, HeError> + Sync),
    /// Sources, then the results of each step from `first[step]`.
    slots: Vec<Mutex<Slot<'s>>>,
    first: Vec<usize>,
    sources: Vec<usize>,
    /// For each slot's maker (sources, then steps): who waits for it. For each task but sources: how many it waits for.
    waiting: Vec<Vec<Task>>,
    missing: Vec<AtomicUsize>,
    /// By step: the terms of a sum that came so far.
    sums: Vec<Mutex<Option<SmallCiphertext>>>,
    outputs: Vec<Mutex<Option<SmallCiphertext>>>,
    error: Mutex<Option<HeError>>,
}

impl SmallKeys {
    /// Makes the targets of a program from sources that are already there.
    ///
    /// # Errors
    /// The program reads a source that is not there, or one of another ring.
    pub fn execute(
        &self,
        program: &Program,
        sources: &[SmallCiphertext],
    ) -> Result<Vec<SmallCiphertext>, HeError> {
        let width = sources.first().map_or(Width::Full, SmallCiphertext::width);
        self.execute_with(program, width, &|i| {
            let count = || HeError::Count {
                operation: "route",
                what: "sources",
                got: sources.len(),
                expected: i + 1,
            };
            sources.get(i).map(Cow::Borrowed).ok_or_else(count)
        })
    }

    /// Makes the targets of a program from sources of one width that are made when they are needed, each once; on the current
    /// rayon pool.
    ///
    /// # Errors
    /// A source cannot be made, or has another ring or width; a step reads what no earlier step made.
    pub fn execute_with<'s>(
        &self,
        program: &Program,
        width: Width,
        source: &(dyn Fn(usize) -> Result<Cow<'s, SmallCiphertext>, HeError> + Sync),
    ) -> Result<Vec<SmallCiphertext>, HeError> {
        let run = Run::new(self, program, width, source)?;
        rayon::scope(|scope| {
            // The last that is spawned is the first to run.
            let ready = |task: &Task| run.missing_of(*task).is_none_or(|m| m.load(Ordering::Acquire) == 0);
            let tasks = (0..run.sources.len())
                .map(Task::Source)
                .chain((0..program.steps.len()).map(Task::Step))
                .chain((0..program.outputs.len()).map(Task::Output));
            for task in tasks.filter(ready).collect::<Vec<_>>().into_iter().rev() {
                let run = &run;
                scope.spawn(move |scope| run.start(scope, task));
            }
        });
        if let Some(error) = lock(&run.error).take() {
            return Err(error);
        }
        let missing = HeError::Count {
            operation: "route",
            what: "steps in order",
            got: 0,
            expected: program.steps.len(),
        };
        let outputs: Option<Vec<_>> = run.outputs.into_iter().map(|o| lock(&o).take()).collect();
        outputs.ok_or(missing)
    }
}

impl<'a, 's> Run<'a, 's> {
    fn new(
        keys: &'a SmallKeys,
        program: &'a Program,
        width: Width,
        source: &'a (dyn Fn(usize) -> Result<Cow<'s, SmallCiphertext>, HeError> + Sync),
    ) -> Result<Self, HeError> {
        let sources = program.sources();
        let mut first = Vec::with_capacity(program.steps.len());
        let mut slots = sources.len();
        for step in &program.steps {
            first.push(slots);
            slots += step.results();
        }
        let (steps, outputs) = (program.steps.len(), program.outputs.len());
        let mut run = Run {
            keys,
            width,
            program,
            source,
            slots: (0..slots).map(|_| Mutex::default()).collect(),
            first,
            waiting: vec![Vec::new(); sources.len() + steps],
            sources,
            missing: (0..steps + outputs).map(|_| AtomicUsize::new(0)).collect(),
            sums: (0..steps).map(|_| Mutex::default()).collect(),
            outputs: (0..outputs).map(|_| Mutex::default()).collect(),
            error: Mutex::default(),
        };
        let steps = program.steps.iter().enumerate();
        for (i, step) in steps {
            match step {
                Step::Sum(terms) => {
                    for term in terms {
                        run.wait(Task::Term(i, *term), term.value, i)?;
                    }
                }
                _ => {
                    for value in step.operands() {
                        run.wait(Task::Step(i), value, i)?;
                    }
                }
            }
            if let Some(level) = step.level().filter(|&level| level >= super::keys::LEVELS as u32) {
                let (index, max) = (level as usize, super::keys::LEVELS - 1);
                return Err(HeError::CoefficientOutOfBounds { operation: "route", index, max });
            }
        }
        for (i, output) in program.outputs.iter().enumerate() {
            if let Some(output) = output {
                run.wait(Task::Output(i), output.value, program.steps.len())?;
            }
        }
        Ok(run)
    }

    /// Notes that a task reads a value of one of the first `before` steps.
    fn wait(&mut self, task: Task, value: Value, before: usize) -> Result<(), HeError> {
        let is_made = match value {
            Value::Source { .. } => true,
            Value::Step { step, result } => step < before && result < self.program.steps[step].results(),
        };
        if !is_made {
            let Value::Step { step, .. } = value else { return Ok(()) };
            return Err(HeError::CoefficientOutOfBounds {
                operation: "route: a step",
                index: step,
                max: before,
            });
        }
        let maker = match value {
            Value::Source { index, .. } => self.source_slot(index),
            Value::Step { step, .. } => self.sources.len() + step,
        };
        self.waiting[maker].push(task);
        let slot = self.slot(value);
        lock(&self.slots[slot]).uses += 1;
        if let Some(missing) = self.missing_of(task) {
            missing.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    fn source_slot(&self, index: usize) -> usize {
        self.sources.partition_point(|&s| s < index)
    }

    fn slot(&self, value: Value) -> usize {
        match value {
            Value::Source { index, .. } => self.source_slot(index),
            Value::Step { step, result } => self.first[step] + result,
        }
    }

    fn missing_of(&self, task: Task) -> Option<&AtomicUsize> {
        match task {
            Task::Source(_) => None,
            Task::Step(i) | Task::Term(i, _) => Some(&self.missing[i]),
            Task::Output(i) => Some(&self.missing[self.program.steps.len() + i]),
        }
    }

    fn start<'scope>(&'scope self, scope: &rayon::Scope<'scope>, task: Task) {
        if lock(&self.error).is_some() {
            return;
        }
        let failed = |error| {
            lock(&self.error).get_or_insert(error);
        };
        let maker = match self.work(task) {
            Ok(Some(maker)) => maker,
            Ok(None) => return,
            Err(error) => return failed(error),
        };
        let is_last = |task| self.missing_of(task).is_some_and(|m| m.fetch_sub(1, Ordering::AcqRel) == 1);
        let (terms, others): (Vec<Task>, Vec<Task>) =
            self.waiting[maker].iter().copied().partition(|task| matches!(task, Task::Term(..)));
        for next in others.into_iter().rev().filter(|&next| is_last(next)) {
            scope.spawn(move |scope| self.start(scope, next));
        }
        for next in terms {
            let Task::Term(step, term) = next else { continue };
            if let Err(error) = self.add(step, term) {
                return failed(error);
            }
            if is_last(next) {
                scope.spawn(move |scope| self.start(scope, Task::Step(step)));
            }
        }
    }

    /// Does a task; says who made something that others wait for.
    fn work(&self, task: Task) -> Result<Option<usize>, HeError> {
        match task {
            Task::Source(slot) => {
                let made = (self.source)(self.sources[slot])?;
                made.check_ring("route", &self.keys.ring)?;
                made.check_width("route", self.width)?;
                self.put(slot, made);
                Ok(Some(slot))
            }
            Task::Step(i) => {
                let results = match &self.program.steps[i] {
                    Step::Sum(_) => {
                        let sum = lock(&self.sums[i]).take();
                        vec![sum.unwrap_or_else(|| SmallCiphertext::zero_of(&self.keys.ring, self.width))]
                    }
                    Step::Merge(merge) => self.merge(merge)?,
                    Step::Fold(fold) => vec![self.fold(fold)?],
                };
                for (k, result) in results.into_iter().enumerate() {
                    self.put(self.first[i] + k, Cow::Owned(result));
                }
                Ok(Some(self.sources.len() + i))
            }
            // Terms are added where they are made.
            Task::Term(..) => Ok(None),
            Task::Output(i) => {
                let made = match self.program.outputs[i] {
                    None => SmallCiphertext::zero_of(&self.keys.ring, self.width),
                    Some(output) => self.output(output)?,
                };
                *lock(&self.outputs[i]) = Some(made);
                Ok(None)
            }
        }
    }

    fn put(&self, slot: usize, made: Cow<'s, SmallCiphertext>) {
        let mut slot = lock(&self.slots[slot]);
        if slot.uses > 0 {
            slot.value = Some(Arc::new(made));
        }
    }

    /// Reads a value; the last reader takes it away.
    fn take(&self, value: Value) -> Result<Made<'s>, HeError> {
        let mut slot = lock(&self.slots[self.slot(value)]);
        slot.uses -= 1;
        let made = if slot.uses == 0 { slot.value.take() } else { slot.value.clone() };
        made.ok_or(HeError::Count {
            operation: "route",
            what: "polynomials made in time",
            got: 0,
            expected: 1,
        })
    }

    /// Adds a term to a sum.
    fn add(&self, step: usize, term: Shifted) -> Result<(), HeError> {
        let made = self.take(term.value)?;
        let mut sums = Sum::new(&self.keys.ring);
        let own: Term<'_> = (&made, halvings(term.value), term.shift);
        let mut sum = lock(&self.sums[step]);
        match &mut *sum {
            Some(sum) => sums.add(own, sum),
            empty => {
                let first = empty.insert(SmallCiphertext::unwritten(&self.keys.ring, self.width));
                sums.write(own, first);
            }
        }
        Ok(())
    }

    /// A value, divided if it is a source that will be doubled.
    fn halved(&self, value: Value) -> Result<Made<'s>, HeError> {
        let made = self.take(value)?;
        if halvings(value) == 0 {
            return Ok(made);
        }
        let mut halved = SmallCiphertext::unwritten(&self.keys.ring, self.width);
        Sum::new(&self.keys.ring).write((&made, halvings(value), 0), &mut halved);
        Ok(Arc::new(Cow::Owned(halved)))
    }

    fn fold(&self, fold: &Fold) -> Result<SmallCiphertext, HeError> {
        let (kept, moved) = (self.halved(fold.kept)?, self.halved(fold.moved)?);
        let ring = &self.keys.ring;
        let switched =
            Switched { ciphertext: &moved, automorphism: ring.context.perms.get(&merge_element(fold.level)) };
        let mut made = SmallCiphertext::unwritten(ring, self.width);
        let terms: [(&SmallCiphertext, _, _); 1] = [(&kept, 1, 0)];
        let mut results = [(Turned { shift: 0, terms: &terms }, &mut made)];
        let key = &self.keys.merges[fold.level as usize];
        Switcher::new(ring, self.width).switch_turned(key, &switched, &mut results);
        Ok(made)
    }

    fn output(&self, output: Shifted) -> Result<SmallCiphertext, HeError> {
        let made = self.halved(output.value)?;
        if !output.shift.is_multiple_of(2 * DEGREE as u32) {
            return Ok(made.shift(output.shift));
        }
        Ok(Arc::try_unwrap(made).map_or_else(|shared| shared.as_ref().clone().into_owned(), Cow::into_owned))
    }

    fn merge(&self, merge: &Merge) -> Result<Vec<SmallCiphertext>, HeError> {
        let even = self.take(merge.even)?;
        let odd = merge.odd.map(|o| Ok::<_, HeError>((self.take(o.value)?, o))).transpose()?;
        let (ring, even_halvings) = (&self.keys.ring, halvings(merge.even));
        // even − odd, where it is not just `even`.
        let difference = match &odd {
            None if even_halvings == 0 => None,
            None => {
                let mut halved = SmallCiphertext::unwritten(ring, self.width);
                Sum::new(ring).write((&even, even_halvings, 0), &mut halved);
                Some(halved)
            }
            Some((odd, place)) => Some(self.difference(&even, even_halvings, odd, *place)),
        };
        let source: &SmallCiphertext = difference.as_ref().unwrap_or(&even);
        let switched = Switched {
            ciphertext: source,
            automorphism: ring.context.perms.get(&merge_element(merge.level)),
        };
        // even + odd is even twice less the difference.
        let pair = [(&**even, 2, even_halvings), (source, -1, 0)];
        let alone = [(source, 1, 0)];
        let terms: &[_] = if odd.is_some() { &pair } else { &alone };
        let mut made: Vec<_> =
            merge.turns.iter().map(|_| SmallCiphertext::unwritten(ring, self.width)).collect();
        let turned = |&t: &u32| Turned { shift: t.wrapping_mul(DEGREE as u32 >> merge.level), terms };
        let mut results: Vec<_> = merge.turns.iter().map(turned).zip(made.iter_mut()).collect();
        let key = &self.keys.merges[merge.level as usize];
        Switcher::new(ring, self.width).switch_turned(key, &switched, &mut results);
        Ok(made)
    }

    /// even/2^halvings − X^shift·odd.
    fn difference(
        &self,
        even: &SmallCiphertext,
        even_halvings: u32,
        odd: &SmallCiphertext,
        place: Shifted,
    ) -> SmallCiphertext {
        let ring = &self.keys.ring;
        let mut difference = SmallCiphertext::unwritten(ring, self.width);
        let (mut monomial, mut junk) = (Buffer::new(DEGREE), Buffer::new(DEGREE));
        for i in self.width.limbs() {
            let m = &ring.context.m[i];
            let factor = mulmod(m.p - 1, ring.halved(i, halvings(place.value)), m.p);
            ring.monomial(i, place.shift, factor, &mut monomial);
            let even = [(even.limbs(i), m.mont(ring.halved(i, even_halvings)))];
            let odd = [(&monomial[..], odd.limbs(i))];
            ring.combine(i, &odd, &even, difference.limbs_mut(i), &mut junk);
        }
        difference
    }
}

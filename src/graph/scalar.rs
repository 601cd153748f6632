//! Functions of one value: what a look-up table tabulates.

use std::fmt;
use std::sync::Arc;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Function {
    Exp,
    Log,
    Sqrt,
    Abs,
    Tanh,
    /// 1 above zero, else 0.
    Step,
    /// −1, 0 or 1.
    Sign,
    Sin,
    Cos,
    /// The error function.
    Erf,
}

impl Function {
    pub const ALL: [(Function, &'static str); 10] = [
        (Function::Exp, "exp"),
        (Function::Log, "log"),
        (Function::Sqrt, "sqrt"),
        (Function::Abs, "abs"),
        (Function::Tanh, "tanh"),
        (Function::Step, "step"),
        (Function::Sign, "sign"),
        (Function::Sin, "sin"),
        (Function::Cos, "cos"),
        (Function::Erf, "erf"),
    ];

    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(function, _)| *function == self).map_or("", |(_, name)| name)
    }

    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, known)| *known == name).map(|(function, _)| *function)
    }

    #[inline]
    pub fn eval(self, x: f64) -> f64 {
        match self {
            Function::Exp => x.exp(),
            Function::Log => x.ln(),
            Function::Sqrt => x.sqrt(),
            Function::Abs => x.abs(),
            Function::Tanh => x.tanh(),
            Function::Step => f64::from(x > 0.0),
            Function::Sign => f64::from(x > 0.0) - f64::from(x < 0.0),
            Function::Sin => x.sin(),
            Function::Cos => x.cos(),
            Function::Erf => erf(x),
        }
    }
}

/// Abramowitz and Stegun 7.1.26, absolute error below 1.5·10⁻⁷: far below the precision of a table.
fn erf(x: f64) -> f64 {
    let t = 1.0 / (1.0 + 0.327_591_1 * x.abs());
    let poly = t
        * (0.254_829_592
            + t * (-0.284_496_736 + t * (1.421_413_741 + t * (-1.453_152_027 + t * 1.061_405_429))));
    (1.0 - poly * (-x * x).exp()).copysign(x)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Binary {
    Add,
    Sub,
    Mul,
    Div,
    Min,
    Max,
    Pow,
}

/// An expression in one variable `z`.
#[derive(Clone, Debug, PartialEq)]
pub enum ScalarExpr {
    Z,
    Const(f64),
    Neg(Arc<ScalarExpr>),
    Bin(Binary, Arc<ScalarExpr>, Arc<ScalarExpr>),
    Call(Function, Arc<ScalarExpr>),
}

use ScalarExpr::{Bin, Call, Const, Neg, Z};

// The operators simplify, and read in a row: methods, as those of an iterator.
#[allow(clippy::should_implement_trait)]
impl ScalarExpr {
    pub fn bin(op: Binary, a: ScalarExpr, b: ScalarExpr) -> Self {
        match (op, &a, &b) {
            (_, Const(x), Const(y)) => Const(op.eval(*x, *y)),
            (Binary::Add, Const(c), e) | (Binary::Add | Binary::Sub, e, Const(c)) if *c == 0.0 => e.clone(),
            (Binary::Mul, Const(c), _) | (Binary::Mul, _, Const(c)) if *c == 0.0 => Const(0.0),
            (Binary::Mul, Const(c), e) | (Binary::Mul | Binary::Div | Binary::Pow, e, Const(c))
                if *c == 1.0 =>
            {
                e.clone()
            }
            _ => Bin(op, Arc::new(a), Arc::new(b)),
        }
    }

    pub fn add(self, other: Self) -> Self {
        Self::bin(Binary::Add, self, other)
    }

    pub fn sub(self, other: Self) -> Self {
        Self::bin(Binary::Sub, self, other)
    }

    pub fn mul(self, other: Self) -> Self {
        Self::bin(Binary::Mul, self, other)
    }

    pub fn div(self, other: Self) -> Self {
        Self::bin(Binary::Div, self, other)
    }

    pub fn neg(self) -> Self {
        match self {
            Const(c) => Const(-c),
            e => Neg(Arc::new(e)),
        }
    }

    pub fn call(function: Function, argument: Self) -> Self {
        match argument {
            Const(c) => Const(function.eval(c)),
            e => Call(function, Arc::new(e)),
        }
    }

    /// The value at `z`; NaN or infinite where the function is undefined.
    pub fn eval(&self, z: f64) -> f64 {
        match self {
            Z => z,
            Const(c) => *c,
            Neg(a) => -a.eval(z),
            Bin(op, a, b) => op.eval(a.eval(z), b.eval(z)),
            Call(f, a) => f.eval(a.eval(z)),
        }
    }

    /// This expression with `inner` in the place of `z`.
    pub fn compose(&self, inner: &ScalarExpr) -> Self {
        match self {
            Z => inner.clone(),
            Const(c) => Const(*c),
            Neg(a) => a.compose(inner).neg(),
            Bin(op, a, b) => Self::bin(*op, a.compose(inner), b.compose(inner)),
            Call(f, a) => Self::call(*f, a.compose(inner)),
        }
    }

    /// Nodes of the expression as a tree.
    pub fn size(&self) -> usize {
        match self {
            Z | Const(_) => 1,
            Neg(a) | Call(_, a) => a.size().saturating_add(1),
            Bin(_, a, b) => a.size().saturating_add(b.size()).saturating_add(1),
        }
    }

    /// `Some((a, b))` if the expression is `a·z + b`.
    pub fn affine(&self) -> Option<(f64, f64)> {
        match self {
            Z => Some((1.0, 0.0)),
            Const(c) => Some((0.0, *c)),
            Neg(e) => e.affine().map(|(a, b)| (-a, -b)),
            Bin(op, x, y) => {
                let ((a, b), (c, d)) = (x.affine()?, y.affine()?);
                match op {
                    Binary::Add => Some((a + c, b + d)),
                    Binary::Sub => Some((a - c, b - d)),
                    Binary::Mul if a == 0.0 => Some((b * c, b * d)),
                    Binary::Mul if c == 0.0 => Some((a * d, b * d)),
                    Binary::Div if c == 0.0 => Some((a / d, b / d)),
                    _ => None,
                }
            }
            Call(..) => None,
        }
    }

    /// The derivative; at a kink the value of one side.
    pub fn derivative(&self) -> Self {
        let d = |e: &Arc<ScalarExpr>| e.derivative();
        let own = |e: &Arc<ScalarExpr>| e.as_ref().clone();
        match self {
            Z => Const(1.0),
            Const(_) => Const(0.0),
            Neg(a) => d(a).neg(),
            Bin(Binary::Add, a, b) => d(a).add(d(b)),
            Bin(Binary::Sub, a, b) => d(a).sub(d(b)),
            Bin(Binary::Mul, a, b) => d(a).mul(own(b)).add(own(a).mul(d(b))),
            Bin(Binary::Div, a, b) => d(a).div(own(b)).sub(own(a).mul(d(b)).div(own(b).mul(own(b)))),
            Bin(Binary::Max, a, b) => {
                let a_wins = Self::call(Function::Step, own(a).sub(own(b)));
                d(a).mul(a_wins.clone()).add(d(b).mul(Const(1.0).sub(a_wins)))
            }
            Bin(Binary::Min, a, b) => {
                let b_wins = Self::call(Function::Step, own(a).sub(own(b)));
                d(b).mul(b_wins.clone()).add(d(a).mul(Const(1.0).sub(b_wins)))
            }
            Bin(Binary::Pow, a, b) => match b.as_ref() {
                Const(n) => Const(*n).mul(Self::bin(Binary::Pow, own(a), Const(n - 1.0))).mul(d(a)),
                // a^b = exp(b·log a)
                _ => Self::call(Function::Exp, own(b).mul(Self::call(Function::Log, own(a))))
                    .mul(own(b).mul(Self::call(Function::Log, own(a))).derivative()),
            },
            Call(f, a) => {
                let x = own(a);
                let outer = match f {
                    Function::Exp => Self::call(Function::Exp, x),
                    Function::Log => Const(1.0).div(x),
                    Function::Sqrt => Const(0.5).div(Self::call(Function::Sqrt, x)),
                    Function::Abs => Self::call(Function::Sign, x),
                    Function::Tanh => {
                        let t = Self::call(Function::Tanh, x);
                        Const(1.0).sub(t.clone().mul(t))
                    }
                    Function::Step | Function::Sign => Const(0.0),
                    Function::Sin => Self::call(Function::Cos, x),
                    Function::Cos => Self::call(Function::Sin, x).neg(),
                    Function::Erf => Const(std::f64::consts::FRAC_2_SQRT_PI)
                        .mul(Self::call(Function::Exp, x.clone().mul(x).neg())),
                };
                outer.mul(d(a))
            }
        }
    }
}

impl Binary {
    #[inline]
    pub fn eval(self, a: f64, b: f64) -> f64 {
        match self {
            Binary::Add => a + b,
            Binary::Sub => a - b,
            Binary::Mul => a * b,
            Binary::Div => a / b,
            // `f64::max` would hide a NaN.
            Binary::Min => {
                if a < b {
                    a
                } else {
                    b
                }
            }
            Binary::Max => {
                if a > b {
                    a
                } else {
                    b
                }
            }
            Binary::Pow => a.powf(b),
        }
    }
}

impl fmt::Display for ScalarExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Z => f.write_str("z"),
            Const(c) => write!(f, "{c}"),
            Neg(a) => write!(f, "-{a}"),
            Bin(Binary::Min, a, b) => write!(f, "min({a}, {b})"),
            Bin(Binary::Max, a, b) => write!(f, "max({a}, {b})"),
            Bin(op, a, b) => {
                let sign = match op {
                    Binary::Add => "+",
                    Binary::Sub => "-",
                    Binary::Mul => "*",
                    Binary::Div => "/",
                    _ => "^",
                };
                write!(f, "({a} {sign} {b})")
            }
            Call(function, a) => write!(f, "{}({a})", function.name()),
        }
    }
}

/// A named function with its derivative.
#[derive(Clone, Debug, PartialEq)]
pub struct ScalarFn {
    pub name: String,
    pub expr: ScalarExpr,
    /// The derivative that the user wrote with `grad`; otherwise the symbolic one is used.
    pub grad: Option<ScalarExpr>,
}

impl ScalarFn {
    pub fn derivative(&self) -> ScalarExpr {
        self.grad.clone().unwrap_or_else(|| self.expr.derivative())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sigmoid() -> ScalarExpr {
        Const(1.0).div(Const(1.0).add(ScalarExpr::call(Function::Exp, Z.neg())))
    }

    #[test]
    fn derivatives_match_finite_differences() {
        let gelu =
            Z.mul(Const(0.5)).mul(Const(1.0).add(ScalarExpr::call(Function::Erf, Z.div(Const(2f64.sqrt())))));
        let cases = [
            sigmoid(),
            gelu,
            ScalarExpr::bin(Binary::Max, Z, Const(0.25).mul(Z)),
            ScalarExpr::bin(Binary::Min, Z.mul(Z), Z.add(Const(1.0))),
            ScalarExpr::call(Function::Tanh, Z.mul(Z)),
            ScalarExpr::call(Function::Log, ScalarExpr::call(Function::Exp, Z).add(Const(1.0))),
            ScalarExpr::bin(Binary::Pow, Z, Const(3.0)),
            ScalarExpr::call(Function::Sin, Z).sub(ScalarExpr::call(Function::Cos, Z)),
        ];
        for f in cases {
            for z in [-1.7, -0.3, 0.4, 2.2] {
                let h = 1e-4;
                let numeric = (f.eval(z + h) - f.eval(z - h)) / (2.0 * h);
                let symbolic = f.derivative().eval(z);
                assert!((numeric - symbolic).abs() < 1e-3, "{f} at {z}: {numeric} against {symbolic}");
            }
        }
    }

    #[test]
    fn affine_expressions_are_recognised() {
        let f = Const(3.0).mul(Z.sub(Const(2.0))).add(Z);
        assert_eq!(f.affine(), Some((4.0, -6.0)));
        assert_eq!(sigmoid().affine(), None);
        assert_eq!(f.compose(&f).eval(0.5), f.eval(f.eval(0.5)));
    }
}

//! Numbers as people read them.

/// `7,275`
pub use crate::data::thousands as count;

/// `1.3 GiB`
pub fn bytes(bytes: f64) -> String {
    let units = ["bytes", "KiB", "MiB", "GiB", "TiB"];
    let power = (bytes.max(1.0).log2() / 10.0).floor().clamp(0.0, 4.0);
    let value = bytes / 1024f64.powf(power);
    let digits = if power == 0.0 || value >= 100.0 { 0 } else { 1 };
    if bytes.round() == 1.0 {
        return "1 byte".to_owned();
    }
    format!("{value:.digits$} {}", units[power as usize])
}

/// `14.2 ms`, `3 min 20 s`
pub fn seconds(seconds: f64) -> String {
    match seconds {
        s if !s.is_finite() => "unknown".to_owned(),
        s if s >= 2.0 * 3600.0 => {
            format!("{:.0} h {:02.0} min", (s / 3600.0).floor(), (s % 3600.0 / 60.0).floor())
        }
        s if s >= 120.0 => format!("{:.0} min {:02.0} s", (s / 60.0).floor(), (s % 60.0).floor()),
        s if s >= 1.0 => format!("{s:.1} s"),
        s if s >= 1e-3 => format!("{:.2} ms", s * 1e3),
        s if s > 0.0 => format!("{:.2} µs", s * 1e6),
        _ => "0 s".to_owned(),
    }
}

/// `98.2 %`
pub fn percent(fraction: f64) -> String {
    format!("{:.1} %", 100.0 * fraction)
}

/// `2^-40.3`, or `1.5 %` where it is large.
pub fn probability(p: f64) -> String {
    match p {
        p if p <= 0.0 => "below 2^-1000".to_owned(),
        p if p >= 0.01 => percent(p),
        p => format!("2^{:.1}", p.log2()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        assert_eq!(bytes(1.0), "1 byte");
        assert_eq!(bytes(3.0), "3 bytes");
        assert_eq!(bytes(1536.0), "1.5 KiB");
        assert_eq!(bytes(1.3 * 1073741824.0), "1.3 GiB");
        assert_eq!(seconds(0.0142), "14.20 ms");
        assert_eq!(seconds(200.0), "3 min 20 s");
        assert_eq!(seconds(7325.0), "2 h 02 min");
        assert_eq!(count(1234567), "1,234,567");
        assert_eq!(count(999), "999");
        assert_eq!(percent(0.982), "98.2 %");
        assert_eq!(probability(0.0), "below 2^-1000");
        assert_eq!(probability(1.0 / 1024.0), "2^-10.0");
    }
}

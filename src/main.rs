use std::process::ExitCode;

fn main() -> ExitCode {
    hesn::cli::main()
}

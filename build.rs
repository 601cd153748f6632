fn main() {
    println!("cargo:rerun-if-changed=grammar");
    lalrpop::Configuration::new()
        .set_in_dir("grammar")
        .process()
        .unwrap_or_else(|error| panic!("the grammar in grammar/ does not generate a parser: {error}"));
}

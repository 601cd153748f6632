//! What no output needs leaves a lowered program.

use super::form::{AtomId, Form};
use super::lower::{AtomKind, Lowered, Side, Site, SiteInput};

impl Lowered {
    /// Removes products and tables that no output needs, such as one whose sum over the batch replaced it. A look-up
    /// has at most `functions` functions.
    pub(super) fn drop_unused(&mut self, functions: usize) {
        let mut products = vec![false; self.products.len()];
        let mut sites = vec![false; self.sites.len()];
        let mut stack: Vec<AtomId> =
            self.outputs.iter().flat_map(|f| f.terms.iter().map(|t| t.atom)).collect();
        let mut seen = vec![false; self.atoms.len()];
        let mut pending_products = Vec::new();
        while let Some(atom) = stack.pop().or_else(|| {
            let product: usize = pending_products.pop()?;
            self.atoms.iter().position(|a| a.kind == AtomKind::Product(product)).map(|i| AtomId(i as u32))
        }) {
            if std::mem::replace(&mut seen[atom.0 as usize], true) {
                continue;
            }
            let mut visit = |form: &Form| stack.extend(form.terms.iter().map(|t| t.atom));
            match self.atoms[atom.0 as usize].kind {
                AtomKind::Product(product) => {
                    products[product] = true;
                    for side in &self.products[product].sides {
                        match side {
                            Side::Leaf(form) => visit(form),
                            Side::Product(inner) => pending_products.push(*inner),
                        }
                    }
                }
                AtomKind::Lut { site, .. } | AtomKind::Weight { site, .. } => {
                    let mut pending = Some(site);
                    while let Some(site) = pending {
                        sites[site] = true;
                        if let SiteInput::Form(form) = &self.sites[site].input {
                            visit(form);
                        }
                        pending = self.sites[site].multiplier.map(|(site, _)| site);
                    }
                }
                AtomKind::Fresh(_) | AtomKind::Label(_) => {}
            }
        }
        let renumber = |kept: &[bool]| {
            let mut next = 0;
            kept.iter()
                .map(|&k| {
                    if k {
                        next += 1;
                        Some(next - 1)
                    } else {
                        None
                    }
                })
                .collect::<Vec<Option<usize>>>()
        };
        let (product_at, site_at) = (renumber(&products), renumber(&sites));
        let mut keep = products.iter();
        self.products.retain(|_| *keep.next().unwrap_or(&false));
        let mut keep = sites.iter();
        self.sites.retain(|_| *keep.next().unwrap_or(&false));
        for product in &mut self.products {
            for side in &mut product.sides {
                if let Side::Product(inner) = side {
                    *inner = product_at[*inner].unwrap_or_default();
                }
            }
        }
        for site in &mut self.sites {
            if let Some((multiplier, _)) = &mut site.multiplier {
                *multiplier = site_at[*multiplier].unwrap_or_default();
            }
        }
        // Atoms of what was removed stay behind, used by nothing; give them a number that is nobody's.
        for atom in &mut self.atoms {
            match &mut atom.kind {
                AtomKind::Product(product) => *product = product_at[*product].unwrap_or(usize::MAX),
                AtomKind::Lut { site, .. } | AtomKind::Weight { site, .. } => {
                    *site = site_at[*site].unwrap_or(usize::MAX);
                }
                _ => {}
            }
        }
        self.prune_functions(functions);
    }

    /// Drops functions of tables that nobody reads, and gives each look-up at most `most`.
    fn prune_functions(&mut self, most: usize) {
        let mut used: Vec<Vec<bool>> =
            self.sites.iter().map(|site| vec![false; site.functions.len()]).collect();
        let mut forms: Vec<&Form> = self.outputs.iter().collect();
        for product in &self.products {
            forms.extend(product.sides.iter().filter_map(|side| match side {
                Side::Leaf(form) => Some(form),
                Side::Product(_) => None,
            }));
        }
        forms.extend(self.sites.iter().filter_map(|site| match &site.input {
            SiteInput::Form(form) => Some(form),
            SiteInput::Master(_) => None,
        }));
        for term in forms.iter().flat_map(|form| &form.terms) {
            match self.atoms[term.atom.0 as usize].kind {
                AtomKind::Lut { site, function } => used[site][function] = true,
                AtomKind::Weight { site, .. } => used[site][0] = true,
                _ => {}
            }
        }
        for (site, function) in self.sites.iter().filter_map(|site| site.multiplier) {
            used[site][function] = true;
        }
        let mut sites = Vec::new();
        let mut moved: Vec<Vec<(usize, usize)>> = Vec::new();
        for (site, used) in std::mem::take(&mut self.sites).into_iter().zip(&used) {
            let mut places = vec![(usize::MAX, 0); used.len()];
            let kept: Vec<usize> = (0..used.len()).filter(|&f| used[f]).collect();
            for together in kept.chunks(most) {
                for (index, &function) in together.iter().enumerate() {
                    places[function] = (sites.len(), index);
                }
                let functions = together.iter().map(|&f| site.functions[f].clone()).collect();
                sites.push(Site { functions, ..site.clone() });
            }
            moved.push(places);
        }
        self.sites = sites;
        for site in &mut self.sites {
            site.multiplier = site.multiplier.map(|(site, function)| moved[site][function]);
        }
        for atom in &mut self.atoms {
            match &mut atom.kind {
                AtomKind::Lut { site, function } if *site != usize::MAX => {
                    (*site, *function) = moved[*site][*function];
                }
                AtomKind::Weight { site, .. } if *site != usize::MAX => *site = moved[*site][0].0,
                _ => {}
            }
        }
    }
}

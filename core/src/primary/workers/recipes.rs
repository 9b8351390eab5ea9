//! How workers are made, by slot and generation.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Plan;
use crate::error::Result;
use crate::fleet::Generation;

/// How a worker is made.
#[derive(Clone)]
pub(super) enum Recipe {
    /// By fork: only the program itself can do it, outside of the primary's own code.
    Fork,
    Program(Arc<Plan>),
    /// By the program, which also replaces it.
    Enrolled,
}

/// How the workers of one generation are made.
#[derive(Clone, Default)]
pub(super) struct Recipes {
    of_slots: BTreeMap<u32, Recipe>,
    /// That of slots that have none of their own.
    of_others: Option<Recipe>,
}

impl Recipes {
    /// All by one program.
    pub(super) fn all_by(program: Arc<Plan>) -> Self {
        Self::all_as(Recipe::Program(program))
    }

    /// All in one way.
    pub(super) fn all_as(recipe: Recipe) -> Self {
        Self { of_slots: BTreeMap::new(), of_others: Some(recipe) }
    }

    pub(super) fn of(&self, slot: u32) -> Option<&Recipe> {
        self.of_slots.get(&slot).or(self.of_others.as_ref())
    }

    /// The same, looked up anew: what files are called may lead to others by now.
    fn renewed(&self) -> Result<Self> {
        let mut known: Vec<(Arc<Plan>, Arc<Plan>)> = Vec::new();
        let mut renew = |recipe: &Recipe| {
            let Recipe::Program(old) = recipe else { return Ok(recipe.clone()) };
            if let Some((_, new)) = known.iter().find(|(other, _)| Arc::ptr_eq(other, old)) {
                return Ok(Recipe::Program(Arc::clone(new)));
            }
            let new = Arc::new(old.renewed()?);
            known.push((Arc::clone(old), Arc::clone(&new)));
            Ok(Recipe::Program(new))
        };
        Ok(Self {
            of_slots: self.of_slots.iter().map(|(slot, recipe)| Ok((*slot, renew(recipe)?))).collect::<Result<_>>()?,
            of_others: self.of_others.as_ref().map(renew).transpose()?,
        })
    }

    fn any(&self, is_meant: impl Fn(&Recipe) -> bool) -> bool {
        self.of_slots.values().chain(&self.of_others).any(is_meant)
    }

    pub(super) fn has_forks(&self) -> bool {
        self.any(|recipe| matches!(recipe, Recipe::Fork))
    }

    fn let_go(&self) {
        for recipe in self.of_slots.values().chain(&self.of_others) {
            if let Recipe::Program(plan) = recipe {
                plan.let_go();
            }
        }
    }
}

/// The recipes of all generations that may be needed again.
#[derive(Default)]
pub(super) struct Generations(BTreeMap<Generation, Recipes>);

impl Generations {
    /// The program has made a worker like this. Slots that have no recipe are filled as the first was.
    pub(super) fn note(&mut self, generation: Generation, slot: u32, recipe: Recipe) {
        let recipes = self.0.entry(generation).or_default();
        recipes.of_others.get_or_insert_with(|| recipe.clone());
        recipes.of_slots.insert(slot, recipe);
    }

    pub(super) fn put(&mut self, generation: Generation, recipes: Recipes) {
        self.0.insert(generation, recipes);
    }

    pub(super) fn get(&self, generation: Generation) -> Option<&Recipes> {
        self.0.get(&generation)
    }

    pub(super) fn of(&self, generation: Generation, slot: u32) -> Option<Recipe> {
        self.get(generation)?.of(slot).cloned()
    }

    /// Those of a generation, looked up anew.
    pub(super) fn renewed(&self, generation: Generation) -> Option<Result<Recipes>> {
        self.get(generation).map(Recipes::renewed)
    }

    /// The others are not needed any more.
    pub(super) fn keep(&mut self, is_needed: impl Fn(Generation) -> bool) {
        self.0.retain(|generation, _| is_needed(*generation));
    }

    /// Nobody is to be made as the worker of this slot was, if that recipe is no other slot's.
    pub(super) fn forget(&mut self, slot: u32) {
        for recipes in self.0.values_mut() {
            if let Some(Recipe::Program(plan)) = recipes.of_slots.remove(&slot) {
                let is_same = |recipe: &Recipe| matches!(recipe, Recipe::Program(other) if Arc::ptr_eq(other, &plan));
                let elsewhere = recipes.of_slots.values().any(is_same);
                if !elsewhere {
                    plan.let_go();
                }
            }
        }
    }

    /// Nobody is to be made any more.
    pub(super) fn let_go(&self) {
        self.0.values().for_each(Recipes::let_go);
    }
}

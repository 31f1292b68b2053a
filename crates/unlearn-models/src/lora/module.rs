//! An adapted network as a Burn module. Written out, because a derived one would ask of every classifier that it can be
//! displayed, and would number the adapters instead of naming them.

use std::collections::BTreeMap;

use burn::module::{Devices, Module, ModuleMapper, ModuleVisitor};
use burn::tensor::Device;

use unlearn_curvature::parameters;

use super::adapter::Place;
use super::{Adapted, ConvAdapter, LinearAdapter};

const CONTAINER: &str = "Struct:Adapted";
const BASE: &str = "base";
const ADAPTERS: &str = "lora";

impl<M: Module> Adapted<M> {
    /// The same with every part changed by its function.
    fn each(
        self,
        base: impl FnOnce(M) -> M,
        conv: impl FnMut(ConvAdapter) -> ConvAdapter,
        linear: impl FnMut(LinearAdapter) -> LinearAdapter,
    ) -> Self {
        Self {
            base: base(self.base),
            convs: self.convs.into_iter().map(conv).collect(),
            linears: self.linears.into_iter().map(linear).collect(),
            plan: self.plan,
        }
    }
}

/// Maps a part below `name`.
fn named<P: ModuleMapper, T>(mapper: &mut P, name: &str, map: impl FnOnce(&mut P) -> T) -> T {
    mapper.enter_module(name, CONTAINER);
    let mapped = map(mapper);
    mapper.exit_module(name, CONTAINER);
    mapped
}

impl<M: Module> Module for Adapted<M> {
    fn collect_devices(&self, devices: Devices) -> Devices {
        let devices = self.base.collect_devices(devices);
        let devices = self.convs.iter().fold(devices, |devices, adapter| adapter.collect_devices(devices));
        self.linears.iter().fold(devices, |devices, adapter| adapter.collect_devices(devices))
    }

    fn fork(self, device: &Device) -> Self {
        self.each(|m| m.fork(device), |a| a.fork(device), |a| a.fork(device))
    }

    fn to_device(self, device: &Device) -> Self {
        self.each(|m| m.to_device(device), |a| a.to_device(device), |a| a.to_device(device))
    }

    fn train(self) -> Self {
        self.each(M::train, ConvAdapter::train, LinearAdapter::train)
    }

    fn valid(&self) -> Self {
        Self {
            base: self.base.valid(),
            convs: self.convs.iter().map(Module::valid).collect(),
            linears: self.linears.iter().map(Module::valid).collect(),
            plan: self.plan.clone(),
        }
    }

    fn materialize(self) -> Self {
        self.each(M::materialize, ConvAdapter::materialize, LinearAdapter::materialize)
    }

    fn visit<V: ModuleVisitor>(&self, visitor: &mut V) {
        visitor.enter_module(BASE, CONTAINER);
        self.base.visit(visitor);
        visitor.exit_module(BASE, CONTAINER);
        visitor.enter_module(ADAPTERS, CONTAINER);
        for adapter in &self.convs {
            visitor.enter_module(&adapter.place.module, CONTAINER);
            adapter.visit(visitor);
            visitor.exit_module(&adapter.place.module, CONTAINER);
        }
        for adapter in &self.linears {
            visitor.enter_module(&adapter.place.module, CONTAINER);
            adapter.visit(visitor);
            visitor.exit_module(&adapter.place.module, CONTAINER);
        }
        visitor.exit_module(ADAPTERS, CONTAINER);
    }

    fn map<P: ModuleMapper>(self, mapper: &mut P) -> Self {
        let Self { base, convs, linears, plan } = self;
        mapper.enter_module(BASE, CONTAINER);
        let base = base.map(mapper);
        mapper.exit_module(BASE, CONTAINER);
        // Whoever maps may name the parameters anew, as loading a record does.
        let ids: BTreeMap<_, _> = parameters(&base).into_iter().map(|p| (p.path, p.id.val())).collect();
        let renamed = |mut place: Place| {
            place.id = ids.get(&place.weight).copied().unwrap_or(place.id);
            place
        };
        mapper.enter_module(ADAPTERS, CONTAINER);
        let convs = convs.into_iter().map(|adapter| {
            let place = renamed(adapter.place.clone());
            let adapter = named(mapper, &place.module, |mapper| adapter.map(mapper));
            ConvAdapter { place, ..adapter }
        });
        let convs = convs.collect();
        let linears = linears.into_iter().map(|adapter| {
            let place = renamed(adapter.place.clone());
            let adapter = named(mapper, &place.module, |mapper| adapter.map(mapper));
            LinearAdapter { place, ..adapter }
        });
        let linears = linears.collect();
        mapper.exit_module(ADAPTERS, CONTAINER);
        Self { base, convs, linears, plan }
    }
}

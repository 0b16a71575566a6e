"""The record of a family of architectures."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from lottapack.format.descriptor import Architecture

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Family:
    """The functions that describe and build one family of architectures.

    ``owns(model)``: whether a module belongs to the family. ``describe(model)``: its class name and config.
    ``prepare(class_name, config)``: import what is needed; an import while modules are built without weights would
    leave constants without values. ``construct(class_name, config)``: call the constructor (the caller ensures that
    nothing is allocated). ``draw(class_name, config)``: the same with real memory and the library's random
    initialisation. ``heads(model)``: the names of the modules that are output heads. ``renamed(model, names)``: the
    model's names of entries of a checkpoint, if the library saves other names. ``converted(model, tensors, own)``:
    the same for tensors, which the library may save split or joined. ``tools(class_name, config)``: the packages
    whose versions go into the provenance. ``current(model, architecture)``: the present configuration of a model,
    with or without adapters. ``as_far_as_plain(model)``: the same without what is not plain data, and the latter by
    place, in words. ``saved(said, architecture)``: the same from the JSON that the library saves beside a
    checkpoint. ``remembers``: whether models do not record how they were built, so that the builder notes it on
    them. ``fills(class_name, config)``: whether the library fills uninitialised memory after creating a tensor, so
    that computing it needs memory; describe() then compares the result. ``computes``: whether most of its models
    have tensors that no checkpoint holds. ``numbers``: the meaning of integers in configurations: ``"sizes"`` that
    the library turns into loops and lists; ``"calls"``, arguments whose meaning only the caller's own classes know;
    or None if they are harmless. Other functions are None if a family does not need them.
    """

    name: str
    owns: Callable[["nn.Module"], bool]
    describe: Callable[["nn.Module"], tuple[str, dict[str, Any]]]
    construct: Callable[[str, dict[str, Any]], "nn.Module"]
    draw: Callable[[str, dict[str, Any]], "nn.Module"]
    heads: Callable[["nn.Module"], set[str]]
    renamed: Callable[["nn.Module", Iterable[str]], dict[str, str]] | None = None
    converted: Callable[["nn.Module", Mapping[str, "Tensor"], Collection[str]], dict[str, "Tensor"]] | None = None
    tools: Callable[[str, dict[str, Any]], tuple[str, ...]] = lambda _, __: ()
    current: Callable[["nn.Module", Architecture], dict[str, Any]] | None = None
    as_far_as_plain: Callable[["nn.Module"], tuple[dict[str, Any] | None, dict[str, str]]] | None = None
    saved: Callable[[Any, Architecture], dict[str, Any]] | None = None
    remembers: bool = False
    fills: Callable[[str, dict[str, Any]], bool] = lambda _, __: False
    computes: bool = False
    numbers: Literal["sizes", "calls"] | None = None
    prepare: Callable[[str, dict[str, Any]], object] = lambda _, __: None

    def names_in_model(self, model: "nn.Module", names: Iterable[str]) -> dict[str, str]:
        """Return the model's names of a checkpoint's entries that the library saves under other names."""
        return self.renamed(model, names) if self.renamed else {}

    def as_in_model(
        self, model: "nn.Module", tensors: Mapping[str, "Tensor"], own: Collection[str]
    ) -> dict[str, "Tensor"]:
        """Return a checkpoint's tensors by the model's names and in its shapes. ``own``: all names that it may have."""
        return self.converted(model, tensors, own) if self.converted else dict(tensors)

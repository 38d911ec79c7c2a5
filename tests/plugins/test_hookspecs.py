"""The hooks: what each is for, and whose answer counts."""

import inspect

import pluggy
import pytest

import segxai as public
from segxai.plugins import hookspecs

HOOKS = ["segxai_adapter", "segxai_aggregator", "segxai_method"]


def manager(*implementations):
    made = pluggy.PluginManager("segxai")
    made.add_hookspecs(hookspecs)
    for one in implementations:
        made.register(one)
    return made


def asked(hook, name="any"):
    """What a hook is called with."""
    return {"name": name} | (
        {"checkpoint": None, "weights_key": None} if hook == "segxai_adapter" else {}
    )


def test_every_hook_says_what_it_is_for_and_how_it_registers():
    found = {name: one for name, one in vars(hookspecs).items() if hasattr(one, "segxai_spec")}
    assert sorted(found) == HOOKS
    for name, hook in found.items():
        assert f"Entry-point group `segxai.{name.removeprefix('segxai_')}s`" in inspect.getdoc(hook)
        assert hook.segxai_spec["firstresult"]


@pytest.mark.parametrize("hook", HOOKS)
def test_a_hook_of_a_class_is_called_with_the_name(hook):
    class Plugin:
        def answer(self, name):
            return f"{hook} {name}"

    setattr(Plugin, hook, public.hookimpl(Plugin.answer))
    assert getattr(manager(Plugin()).hook, hook)(**asked(hook, "mine")) == f"{hook} mine"


@pytest.mark.parametrize("hook", HOOKS)
def test_the_first_answer_that_is_not_none_counts(hook):
    def plugin(answer):
        @public.hookimpl
        def called(name):
            return answer

        return type("Plugin", (), {hook: staticmethod(called)})()

    calls = getattr(manager(plugin("older"), plugin("newer"), plugin(None)).hook, hook)
    assert calls(**asked(hook)) == "newer"
    assert getattr(manager(plugin(None)).hook, hook)(**asked(hook)) is None
    assert getattr(manager().hook, hook)(**asked(hook)) is None


def test_an_implementation_may_leave_out_the_name_but_not_ask_for_more():
    class Short:
        @public.hookimpl
        def segxai_adapter(self):
            return "adapter"

    class Long:
        @public.hookimpl
        def segxai_adapter(self, name, size):
            return "adapter"

    assert manager(Short()).hook.segxai_adapter(**asked("segxai_adapter")) == "adapter"
    with pytest.raises(pluggy.PluginValidationError, match="size"):
        manager(Long())

"""What the programs that read a config have in common: flags, the log, and errors in one line."""

import pathlib
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import NoReturn

from absl import app, flags, logging
from ml_collections import config_flags

from sognet_jax import configs, hosts
from sognet_jax.checkpoints import newest_whole, stored_config
from sognet_jax.cpu_convolutions import choose_eigen
from sognet_jax.files import first_line

DEBUG = flags.DEFINE_bool('debug', False, 'Show where an error comes from.')

OLDER = flags.DEFINE_bool(
    'older_if_damaged', False, 'Of a run whose newest checkpoint is damaged, take the newest that is whole.'
)

CONFIG_HELP = (
    'An experiment: a file such as configs/shapes.py or configs/shapes.py:VARIANT, or the name of one that comes with '
    'the package. A field is overridden as --config.a.b=value.'
)


def run(main: Callable[[Sequence[str]], None], *, takes_arguments: bool = False, on_hosts: bool = False) -> None:
    """Runs a program that has a config. What is wrong with its input ends it with one line and status 1.

    Without `--config`, the config is what the checkpoint says that `--checkpoint` names. `--debug` shows where an error
    comes from.

    Args:
        main: gets the arguments that are no flags.
        takes_arguments: it wants some.
        on_hosts: it can run on several hosts at once.
    """

    def guarded(arguments: Sequence[str]) -> None:
        if len(arguments) > 1 and not takes_arguments:
            raise app.UsageError(f'unexpected arguments: {arguments[1:]}')
        try:
            if on_hosts:
                _join_hosts()
            main(arguments[1:])
        except (ValueError, OSError, ArithmeticError) as error:
            _end(error, DEBUG.value)
        except RuntimeError as error:
            if hosts.count() == 1:
                raise
            _end(RuntimeError(f'this host failed, or another one has ended: {first_line(error)}'), DEBUG.value)
        except Exception as error:
            if hosts.count() > 1:  # a process that ends in peace waits for the other hosts
                traceback.print_exception(error)
                hosts.end(first_line(error), 1)
            raise
        except KeyboardInterrupt:
            hosts.end('interrupted', 1)

    choose_eigen()
    logging.set_verbosity(logging.ERROR)  # tfds and Orbax narrate every step; what fails is raised
    if on_hosts:
        flags.DEFINE_string('coordinator_address', None, 'Of several hosts: HOST:PORT of process 0.')
        flags.DEFINE_integer('num_processes', None, 'Of several hosts: how many processes there are.')
        flags.DEFINE_integer('process_id', None, 'Of several hosts: which of the processes this is, from 0 on.')
        flags.DEFINE_bool('distributed', False, 'Of several hosts: the cluster says the rest (docs/hosts.md).')
    try:
        _define_config()
    except (ValueError, AttributeError) as error:
        _end(error, '--debug' in sys.argv)
    _describe(main.__module__)
    app.run(guarded, flags_parser=_parse_flags)


def _parse_flags(arguments: list[str]) -> list[str]:
    try:
        return app.parse_flags_with_usage(arguments)
    except AttributeError as error:
        _end(error, '--debug' in arguments)


def _describe(module: str) -> None:
    """What `--help` shows: the program's own text or else its module's, and the flags of both modules."""
    program = sys.modules['__main__']
    program.__doc__ = program.__doc__ or sys.modules[module].__doc__
    of_module = flags.FLAGS.flags_by_module_dict()
    for flag in [*of_module.get(module, []), *of_module[__name__]]:
        flags.FLAGS.register_key_flag_for_module(sys.argv[0], flag)


def _define_config() -> None:
    checkpoint = _given('checkpoint')
    if checkpoint is not None and _is_set(OLDER.name):
        if _given('coordinator_address') or _is_set('distributed'):  # to read arrays comes before hosts are joined
            raise ValueError(f'--{OLDER.name} is for one host: name a checkpoint that is whole, RUN/checkpoints/STEP')
        whole = str(newest_whole(checkpoint, lambda line: print(line, file=sys.stderr)))
        sys.argv = [*sys.argv, f'--checkpoint={whole}']  # the last one counts
        checkpoint = whole
    sys.argv = [_with_path(argument) for argument in sys.argv]
    if _given('config') is None and checkpoint is not None:
        config_flags.DEFINE_config_dict('config', stored_config(checkpoint), CONFIG_HELP)
    else:
        config_flags.DEFINE_config_file('config', None, CONFIG_HELP)
        flags.mark_flag_as_required('config')


def _join_hosts() -> None:
    given = flags.FLAGS
    if given.coordinator_address or given.distributed:
        hosts.start(given.coordinator_address, given.num_processes, given.process_id)
    elif given.num_processes is not None or given.process_id is not None:
        raise ValueError('--num_processes and --process_id want --coordinator_address (or --distributed)')


def _end(error: Exception, shows_all: bool) -> NoReturn:
    if shows_all:
        traceback.print_exception(error)
    if isinstance(error, AttributeError):  # of a flag, says ml_collections
        error = ValueError(
            f'no such config field: {" ".join(str(getattr(error.args[0], "args", error.args)[0]).split())}'
        )
    hosts.end(f'{error}' or type(error).__name__, 1)


def _with_path(argument: str) -> str:
    """`--config=NAME`, of a config that comes with the package, as the path of its file."""
    flag, _, value = argument.partition('=')
    name, colon, variant = value.partition(':')
    if flag.lstrip('-') != 'config' or not name.isidentifier():
        return argument
    file = pathlib.Path(configs.__file__).with_name(f'{name}.py')
    return f'{flag}={file}{colon}{variant}' if file.is_file() else argument


def _is_set(name: str) -> bool:
    """Whether a flag that is true or false is given, before flags are parsed."""
    return any(re.fullmatch(f'--?{name}(=(true|t|yes|y|1))?', argument.lower()) for argument in sys.argv)


def _given(name: str) -> str | None:
    """The value of a flag before flags are parsed; None where it is not given."""
    for position, argument in enumerate(sys.argv[1:], start=1):
        flag, equals, value = argument.lstrip('-').partition('=')
        if argument.startswith('-') and flag == name:
            return value if equals else next(iter(sys.argv[position + 1 :]), None)
    return None

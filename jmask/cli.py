"""The command line: reads options, sets double precision, turns mistakes into one line and exit code 2."""

import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

try:
    import typer
except ModuleNotFoundError as missing:
    raise SystemExit(f"Error: the command line needs {missing.name}: python -m pip install 'jmask[study]'") from missing

from . import __version__
from .commands.options import Method, Scale

app = typer.Typer(no_args_is_help=False, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)

Data = Annotated[
    str, typer.Argument(metavar="DATA", help=".npy, .npz (FILE.npz:key), .csv, .tsv or .parquet; or digits")
]
Ridge = Annotated[str, typer.Option(metavar="auto|VALUE", help="penalty; auto: least leave-one-out error")]
Mask = Annotated[
    str, typer.Option(metavar="KIND", help="leave-one-out, bernoulli:RATE or partition:FILE (a label a column)")
]
ScaleOption = Annotated[Scale, typer.Option(help="what is done to each column first")]
Columns = Annotated[
    str | None, typer.Option(metavar="A,B,C", help="columns to use, by name (by number from 0 without a header)")
]
Dimension = Annotated[int | None, typer.Option(help="of a population by name; default 200")]
IdColumn = Annotated[
    str | None, typer.Option(metavar="NAME", help="column that names the rows; found if first and text")
]


def _show_version(value: bool) -> None:
    if value:
        typer.echo(f"jmask {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _jmask(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show it.")] = False,
) -> None:
    """Masked self-supervised regression: every column predicted from the others, exactly."""
    del version
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command()
def fit(
    data: Data,
    ridge: Ridge = "auto",
    mask: Mask = "leave-one-out",
    method: Annotated[Method, typer.Option(help="how the fit is computed")] = Method.CLOSED_FORM,
    scale: ScaleOption = Scale.CENTER,
    columns: Columns = None,
    id_column: IdColumn = None,
    seed: Annotated[int, typer.Option(min=0, help="for the 20% of rows held out")] = 0,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="directory to write; default jmask-DATA")] = None,
) -> None:
    """Fit DATA, compare on held-out rows, write the fit, summary.json and figures."""
    from .commands.fitting import run_fit

    run_fit(
        data,
        ridge=ridge,
        mask=mask,
        method=method,
        scale=scale,
        columns=columns,
        id_column=id_column,
        seed=seed,
        out=out,
        command=_command_line,
    )


@app.command()
def impute(
    data: Data,
    out: Annotated[Path, typer.Option(metavar="FILE", help="file to write, of the same kind as DATA")],
    ridge: Ridge = "auto",
    scale: ScaleOption = Scale.CENTER,
    columns: Columns = None,
    id_column: IdColumn = None,
) -> None:
    """Fill the missing entries (empty cells, NaN) of DATA from a fit to its complete rows."""
    from .commands.imputing import run_impute

    run_impute(data, out=out, ridge=ridge, scale=scale, columns=columns, id_column=id_column)


@app.command()
def theory(
    source: Annotated[
        str,
        typer.Argument(
            metavar="[POPULATION|DATA]",
            help="ar1:RHO, ring:RHO, power-law:EXPONENT, equicorrelated:CORRELATION, blocks:SIZE,CORRELATION, "
            "factors:SHARE,STRENGTH, inverse-mp:RATIO, isotropic, diagonal:VARIANCE,… (repeated in turn), "
            "spiked:STRENGTH,…; or a data file as for fit, or digits",
        ),
    ] = "ar1:0.9",
    dimension: Dimension = None,
    ridge: Annotated[
        str | None, typer.Option(metavar="A,B,best", help="penalties; best: that of least test error at every n")
    ] = None,
    ratio: Annotated[str, typer.Option(metavar="LOW..HIGH", help="range of n/d")] = "0.1..10",
    points: Annotated[
        int, typer.Option(min=2, help="how many n/d, evenly in their logarithm; a few more near n = d")
    ] = 60,
    mask: Mask = "leave-one-out",
    elliptical: Annotated[bool, typer.Option("--elliptical", help="heavy tails: scales estimated from DATA")] = False,
    simulate: Annotated[int, typer.Option(metavar="SEEDS", help="fits to so many samples, on top; 0: none")] = 0,
    scale: ScaleOption = Scale.CENTER,
    columns: Columns = None,
    id_column: IdColumn = None,
    seed: Annotated[int, typer.Option(min=0, help="for random directions and for --simulate")] = 0,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="directory to write; default jmask-theory-NAME")
    ] = None,
) -> None:
    """Predict train and test error against n/d, from a population or from DATA, and draw them."""
    from .commands.learning_curve import run_theory

    run_theory(
        source,
        dimension=dimension,
        ridge=ridge,
        ratio=ratio,
        points=points,
        mask=mask,
        elliptical=elliptical,
        simulations=simulate,
        scale=scale,
        columns=columns,
        id_column=id_column,
        seed=seed,
        out=out,
        command=_command_line,
    )


@app.command()
def phase(
    population: Annotated[
        str,
        typer.Argument(
            metavar="[POPULATION]",
            help="the noise: ar1:RHO, ring:RHO, power-law:EXPONENT, equicorrelated:CORRELATION, isotropic, "
            "diagonal:VARIANCE,… (repeated in turn)",
        ),
    ] = "diagonal:0.3,3.0",
    dimension: Annotated[int | None, typer.Option(help="default 200, or 100 for ar1 and equicorrelated")] = None,
    ratio: Annotated[
        str | None, typer.Option(metavar="VALUE|LOW..HIGH", help="n/d; default 0.1..10, or 1 along the ridge")
    ] = None,
    ridge: Annotated[
        str | None,
        typer.Option(metavar="VALUE|LOW..HIGH", help="penalty; a range draws along it; default 0.1 mean variances"),
    ] = None,
    strength: Annotated[
        str | None, typer.Option(metavar="LOW..HIGH", help="of the direction; default around the thresholds")
    ] = None,
    points: Annotated[
        int | None,
        typer.Option(min=2, help="along either axis, evenly in their logarithm; default 40, or 16 for a matrix"),
    ] = None,
    simulate: Annotated[int, typer.Option(metavar="SEEDS", help="samples at each of 16 places, on top; 0: none")] = 0,
    seed: Annotated[int, typer.Option(min=0, help="for --simulate")] = 0,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="directory to write; default jmask-phase-NAME")
    ] = None,
) -> None:
    """Predict where a direction in noise is found and how well, by masked regression, by PCA and at best; draw it."""
    from .commands.phase_diagram import run_phase

    run_phase(
        population,
        dimension=dimension,
        ratio=ratio,
        ridge=ridge,
        strength=strength,
        points=points,
        simulations=simulate,
        seed=seed,
        out=out,
        command=_command_line,
    )


@app.command()
def tune(
    data: Data,
    groups: Annotated[
        Path | None, typer.Option(metavar="FILE", help="a label a column: one ridge a group; default: one a column")
    ] = None,
    hide_rate: Annotated[
        float | None, typer.Option(metavar="RATE", help="also choose how to train for inputs missing at this rate")
    ] = None,
    folds: Annotated[int, typer.Option(min=2, help="of the rows held out in turn to stop the tuning")] = 5,
    nested: Annotated[bool, typer.Option("--nested", help="repeat all of it within each fold: slow, strict")] = False,
    scale: ScaleOption = Scale.CENTER,
    columns: Columns = None,
    id_column: IdColumn = None,
    seed: Annotated[int, typer.Option(min=0, help="for the 20% of rows held out, and the folds")] = 0,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="directory to write; default jmask-tune-DATA")] = None,
) -> None:
    """Choose a ridge for every column of DATA by gradient; say what that gains on held-out rows, and draw the path."""
    _keep_programs()
    from .commands.tuning import run_tune

    run_tune(
        data,
        groups=groups,
        hide_rate=hide_rate,
        folds=folds,
        nested=nested,
        scale=scale,
        columns=columns,
        id_column=id_column,
        seed=seed,
        out=out,
        command=_command_line,
    )


@app.command()
def descent(
    source: Annotated[
        str, typer.Argument(metavar="[POPULATION|DATA]", help="a population as for theory, or a data file, or digits")
    ] = "ar1:0.9",
    dimension: Dimension = None,
    rows: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="samples to train on; default two a column, as far as DATA goes"),
    ] = None,
    ridge: Annotated[float, typer.Option(help="penalty of the objective that is descended")] = 0.0,
    steps: Annotated[int, typer.Option(min=2, max=999_999, help="of every optimiser")] = 1000,
    draws: Annotated[int, typer.Option(help="descents on so many samples, on top; 0: none")] = 3,
    scale: ScaleOption = Scale.CENTER,
    columns: Columns = None,
    id_column: IdColumn = None,
    seed: Annotated[int, typer.Option(min=0, help="for random directions and the samples")] = 0,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="directory to write; default jmask-descent-NAME")
    ] = None,
) -> None:
    """Predict the error of gradient descent after every step, where to stop and what that is worth; measure beside."""
    _keep_programs()
    from .commands.descending import run_descent

    run_descent(
        source,
        dimension=dimension,
        rows=rows,
        ridge=ridge,
        steps=steps,
        draws=draws,
        scale=scale,
        columns=columns,
        id_column=id_column,
        seed=seed,
        out=out,
        command=_command_line,
    )


@app.command()
def sweep(
    study: Annotated[
        str, typer.Argument(metavar="[STUDY.toml]", help="a file, or a preset: quick, paper, dimension")
    ] = "quick",
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="directory to write; default jmask-sweep-STUDY")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="continue what is stored in DIR")] = False,
    workers: Annotated[
        int | None, typer.Option(metavar="N", help="so many processes on this machine, one a GPU (jmask[cluster])")
    ] = None,
    scheduler: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Dask scheduler whose workers compute (jmask[cluster])")
    ] = None,
    memory: Annotated[
        str | None, typer.Option(metavar="SIZE", help="for the work in progress, 8G say; default half of what there is")
    ] = None,
) -> None:
    """Simulate a grid of sizes, ridges, masks and spikes beside the theory; a run that was stopped can go on."""
    _keep_programs()
    from .commands.sweeping import run_sweep

    run_sweep(
        study,
        out=out,
        resume=resume,
        memory=memory,
        workers=workers,
        scheduler=scheduler,
        command=_command_line,
    )


@app.command()
def compare(
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="[POPULATION|DATA]",
            help="a population as for theory, also blocks:SIZE,CORRELATION, factors:SHARE,STRENGTH, inverse-mp:RATIO; "
            "or a data file as for fit, or digits; default ar1:0.9",
        ),
    ] = None,
    dimension: Dimension = None,
    ratio: Annotated[float | None, typer.Option(help="n/d of a population by name; default 2")] = None,
    families: Annotated[bool, typer.Option("--map", help="instead: a map over five families and n/d")] = False,
    scale: ScaleOption = Scale.CENTER,
    columns: Columns = None,
    id_column: IdColumn = None,
    seed: Annotated[int, typer.Option(min=0, help="for random directions, and for the 20% of rows held out")] = 0,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="directory to write; default jmask-compare-NAME")
    ] = None,
) -> None:
    """Set masked ridge against PPCA, shrinkage and the least any spectral predictor can reach; draw why."""
    _keep_programs()
    from .commands.comparing import run_compare

    run_compare(
        source,
        dimension=dimension,
        ratio=ratio,
        families=families,
        scale=scale,
        columns=columns,
        id_column=id_column,
        seed=seed,
        out=out,
        command=_command_line,
    )


def _keep_programs() -> None:
    """Keep compiled programs on disk from run to run."""
    import jax

    if jax.config.jax_compilation_cache_dir is None:  # type: ignore[attr-defined]
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        jax.config.update("jax_compilation_cache_dir", str(home / "jmask" / "xla"))


_command_line: list[str] = ["jmask"]
_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code: 0, 2 for a mistake of the user's (one line on stderr), 130 for Ctrl-C."""
    import jax

    arguments = sys.argv[1:] if arguments is None else list(arguments)
    _command_line[:] = ["jmask", *arguments]
    jax.config.update("jax_enable_x64", True)
    os.environ.setdefault("MPLBACKEND", "Agg")
    # Threads of XLA on CPU. Batched LAPACK calls wait for others of the same pool to do their parts: with one thread a
    # core, two such calls at once on two cores wait for ever (seen with jaxlib 0.10).
    os.environ.setdefault("NPROC", str(max(8, os.cpu_count() or 1)))
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _warn_in_one_line
            code = app(arguments, prog_name="jmask", standalone_mode=False)
    except KeyboardInterrupt:
        code = _INTERRUPTED
    except (ValueError, OSError, MemoryError, ModuleNotFoundError) as error:
        return _refuse(_one_line(error))
    except Exception as error:
        if hasattr(error, "format_message"):  # wrong options, in whichever click typer carries
            return _refuse(_one_line(error.format_message()))
        if type(error).__name__ != "Abort":  # what older typers make of Ctrl-C
            raise
        code = _INTERRUPTED
    if code == _INTERRUPTED:
        sys.stderr.write("Interrupted\n")
    return code if isinstance(code, int) else 0


def _one_line(error: object) -> str:
    if isinstance(error, MemoryError):
        return f"not enough memory: {error}" if str(error) else "not enough memory"
    return " ".join(str(error).split()) or type(error).__name__


def _refuse(message: str) -> int:
    sys.stderr.write(f"Error: {message}\n")
    return 2


def _warn_in_one_line(message: Warning | str, *_: object, **__: object) -> None:
    sys.stderr.write(f"Warning: {' '.join(str(message).split())}\n")


if __name__ == "__main__":
    sys.exit(main())

# %% [markdown]
# # A BERT classifier, made small
#
# A teacher learns to tell good reviews from bad ones, a student with four layers learns from it, and the student goes
# into 8-bit numbers. It takes a few minutes on two cores: the teacher sees 512 sentences, once. `make demo` does all of
# it on the whole data, and README shows what that gives.
#
#     pip install 'tinybert-toolkit[demo]'    # with sentences and an encoder, so that nothing is downloaded

# %%
from time import perf_counter

import matplotlib.pyplot as plt

from toolkit import Bundle, Event, distill, evaluate, export, finetune, listening, load
from toolkit.data import builtin

ENCODER, TASK, OUT = str(builtin.minilm()), "rotten-tomatoes", "runs/tour"

# %% [markdown]
# ## The teacher
#
# The arguments are the options of `toolkit finetune`. What comes back is a bundle: a directory that Hugging Face's
# classes open too. Its metrics are of rows that chose nothing.

# %%
teacher = finetune(model=ENCODER, task=TASK, max_rows=512, epochs=1, lr=2e-4, out=f"{OUT}/teacher", overwrite=True)
print(f"{teacher.split} accuracy {teacher.metrics['accuracy']:.1%}, {teacher.weight_bytes / 1e6:.1f} MB")

# %% [markdown]
# ## The student
#
# Functions say nothing unless somebody listens. Here a callback keeps the losses: first the student imitates the
# teacher's layers, then its answers.

# %%
losses: dict[str, list[tuple[int, float]]] = {}


def keep(event: Event) -> None:
    """Keep the loss of a step, where the event has one."""
    loss = event.figures.get("loss")
    if isinstance(loss, float):
        losses.setdefault(event.name, []).append((event.done, loss))


with listening(keep):
    student = distill(
        teacher=f"{OUT}/teacher", task=TASK, max_rows=512, intermediate_epochs=2, prediction_epochs=2,
        out=f"{OUT}/student", overwrite=True,
    )  # fmt: skip

# %%
figure, axes = plt.subplots(1, 2, figsize=(9, 2.5), layout="constrained")
for stage, axis in zip(losses, axes, strict=True):
    axis.plot(*zip(*losses[stage], strict=True))
    axis.set(title=f"stage {stage}", xlabel="step", ylabel="loss")
plt.show()

# %% [markdown]
# ## Eight bits
#
# The export compares the new graph with PyTorch on the dev rows, and raises `GateError` if it loses more than
# `max_drop` points. After so short a training many scores are near one half, so the bound is wide.
#
# The times below are those of one run on two cores. `toolkit bench` times models in turn and gives intervals.

# %%
int8 = export(source=f"{OUT}/student", max_drop=3.0, out=f"{OUT}/int8", overwrite=True)


def describe(name: str, bundle: Bundle) -> None:
    """Print accuracy, size and the time of one sentence."""
    predictor, times = load(bundle, threads=1), []
    for _ in range(30):
        start = perf_counter()
        predictor.predict(["a warm , funny and engaging film"])
        times.append(1000 * (perf_counter() - start))
    accuracy = evaluate(bundle=str(bundle.path), split=bundle.split).metrics["accuracy"]
    print(f"{name:<8} {accuracy:7.1%} {bundle.weight_bytes / 1e6:7.1f} MB {sorted(times)[15]:7.2f} ms a sentence")


for name, bundle in {"teacher": teacher, "student": student, "int8": int8}.items():
    describe(name, bundle)

# %% [markdown]
# ## Its answers
#
# `toolkit serve runs/tour/int8` gives the same ones over HTTP.

# %%
for text in ("a warm , funny and engaging film", "the plot is a mess and the jokes fall flat"):
    ((best,),) = load(int8).classify([text], top_k=1)
    print(f"{best.label} {best.score:.3f}  {text}")

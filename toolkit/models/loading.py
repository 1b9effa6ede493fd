"""Models that a command line names: bundles, plain Hugging Face directories, names on the hub."""

from __future__ import annotations

import copy
import hashlib
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from toolkit.bundle.format import Bundle, is_bundle, open_bundle
from toolkit.bundle.manifest import Origin
from toolkit.bundle.provenance import origin
from toolkit.data.hub import check_model_name, hub_answers, not_on_disk
from toolkit.errors import ToolkitError, raise_problems, reason_of, require_packages
from toolkit.tasks import Kind, Task

PROBLEM_TYPES: dict[Kind, str] = {  # Hugging Face's names
    "classification": "single_label_classification", "multi_label": "multi_label_classification",
    "regression": "regression",
}  # fmt: skip

LONGEST = 512  # tokens of a text, unless more are asked for: attention grows with their square
# those of WordPiece, BPE and SentencePiece tokenizers; the last ones can be converted to tokenizer.json
TOKENIZER_FILES = (
    "tokenizer.json", "vocab.txt", "vocab.json", "sentencepiece.bpe.model", "spiece.model", "spm.model",
    "tokenizer.model", "tokenizer_config.json",
)  # fmt: skip


class Source:
    """A model that the command line names, with its tokenizer as files.

    Args:
        name: a bundle, a directory that `save_pretrained` wrote, or a name on the hub.
        workdir: gets the tokenizer's files, tokenizer.json among them.

    Raises:
        ToolkitError: a damaged bundle, no such model, or a tokenizer without a fast form.
    """

    def __init__(self, name: str, workdir: Path) -> None:
        require_packages("torch", "transformers", purpose=f"opening {name}")
        import transformers

        transformers.logging.set_verbosity_error()  # "newly initialized" is said by us, where it matters
        transformers.logging.disable_progress_bar()
        logging.getLogger("transformers").setLevel(logging.ERROR)
        check_model_name(name)
        self.name, self._local = name, Path(name).exists() or not hub_answers()
        self.bundle: Bundle | None = open_bundle(name) if is_bundle(Path(name)) else None
        if self.bundle is not None and self.bundle.weights.suffix == ".onnx":
            raise ToolkitError(f"{name} is an ONNX bundle, which cannot be trained", expected="a PyTorch model")
        self.config = self._open(transformers.AutoConfig.from_pretrained, "AutoConfig")
        _reset_outputs(self.config)
        tokenizer = self._open_tokenizer()
        if not tokenizer.is_fast:
            raise ToolkitError(
                f"the tokenizer of {name} ({type(tokenizer).__name__}) has no fast form (tokenizer.json)",
                expected="a tokenizer of the `tokenizers` library",
            )
        tokenizer.backend_tokenizer.no_truncation()  # some tokenizer.json files bake both in (all-MiniLM-L6-v2: 128)
        tokenizer.backend_tokenizer.no_padding()
        self.tokenizer = tokenizer
        self.tokenizer_dir = workdir / "tokenizer"
        tokenizer.save_pretrained(self.tokenizer_dir)
        padding = getattr(self.config, "pad_token_id", None)  # decoders find a text's end by it
        padding = tokenizer.pad_token_id if padding is None else padding
        (self.tokenizer_dir / "config.json").write_text(json.dumps({"pad_token_id": padding}))

    @property
    def digest(self) -> str | None:
        """Return the digest of the bundle; None where the source is no bundle."""
        return self.bundle.digest if self.bundle else None

    @property
    def origin(self) -> Origin:
        """Return the source's entry for the manifest of a bundle that is made from it."""
        return origin(self.name, getattr(self.config, "_commit_hash", None))

    @property
    def max_length(self) -> int:
        """Return the number of tokens that the model has positions for."""
        from toolkit.models.families import position_count

        return position_count(self.config)

    @property
    def stated_length(self) -> int:
        """Return the number of tokens at which the source itself cuts texts, at most LONGEST and its positions.

        A bundle says it; the tokenizer of a plain model may, else its positions do.
        """
        if self.bundle is not None:
            return self.bundle.max_length
        return min(int(min(self.tokenizer.model_max_length, LONGEST)), self.max_length)

    def encoder(self, task: Task, max_length: int | None) -> Any:
        """Open the source's tokenizer, with texts cut at `max_length` or else at the task's length.

        Raises:
            ToolkitError: longer than the model has positions.
        """
        from toolkit.data.tokenization import TextEncoder

        length = max_length or min(task.max_length, self.max_length)
        if length > self.max_length:
            raise ToolkitError(f"--max-length {length}: {self.name} has positions for {self.max_length} tokens")
        return TextEncoder(self.tokenizer_dir, length)

    def classifier(self, task: Task | None = None) -> Any:
        """Load the classifier, to learn from; a task puts on a head for its labels, to train, a new one where need be.

        Raises:
            ToolkitError: without a task, a model that lacks some of its weights, such as an encoder without a head.
        """
        from transformers import AutoModelForSequenceClassification

        from toolkit.models.unrolling import unroll

        if task is None:
            model, info = self._model(AutoModelForSequenceClassification)
            if missing := sorted(info["missing_keys"]):
                raise ToolkitError(
                    f"{self.name} is no trained classifier: {', '.join(missing[:3])} missing",
                    expected="a model that was fine-tuned with its classification head",
                    fix=f"toolkit finetune --model {self.name} --task TASK --out DIR",
                )
            return unroll(model).eval()
        return self._model(
            AutoModelForSequenceClassification,
            ignore_mismatched_sizes=True,
            id2label=dict(enumerate(task.labels)),
            label2id={label: i for i, label in enumerate(task.labels)},
            problem_type=PROBLEM_TYPES[task.kind],
        )[0]

    def encoder_model(self) -> Any:
        """Load the encoder alone, without any head, in eval mode, to learn from.

        Raises:
            ToolkitError: a tensor is missing; drawn anew it would compute noise. A pooler, which nothing reads, may be.
        """
        from transformers import AutoModel

        from toolkit.models.unrolling import unroll

        model, info = self._model(AutoModel)
        missing = sorted(name for name in info["missing_keys"] if not name.startswith("pooler."))
        raise_problems(
            (f"{name} is missing" for name in missing), subject=f"{self.name} does not hold all weights",
            fix="a directory or name on the hub of a whole encoder",
        )  # fmt: skip
        return unroll(model).eval()

    def masked_lm(self) -> Any:
        """Load the encoder with its masked-language-model head, in eval mode.

        Raises:
            ToolkitError: weights without that head; drawn anew it would predict noise.
        """
        from transformers import AutoModelForMaskedLM

        model, info = self._model(AutoModelForMaskedLM)
        if info["missing_keys"]:
            raise ToolkitError(
                f"{self.name} has no masked-language-model head: {', '.join(sorted(info['missing_keys'])[:3])} missing",
                expected="a pre-trained model that still has it, such as bert-base-uncased",
            )
        return model.eval()

    def _model(self, kind: Any, *, ignore_mismatched_sizes: bool = False, **changes: Any) -> tuple[Any, dict[str, Any]]:
        """Load a model with its report of loading, in float32: transformers 5 keeps the type of stored weights.

        `changes` are entries of its configuration.
        """
        config = copy.deepcopy(self.config)
        for name, value in changes.items():
            setattr(config, name, value)
        model, info = self._open(
            kind.from_pretrained, kind.__name__, config=config, ignore_mismatched_sizes=ignore_mismatched_sizes,
            output_loading_info=True,
        )  # fmt: skip
        return model.float(), info

    def _open_tokenizer(self) -> Any:
        folder = Path(self.name)
        if folder.is_dir() and not any((folder / name).is_file() for name in TOKENIZER_FILES):
            raise ToolkitError(
                f"{self.name} has a model and no tokenizer",
                expected=f"one of {', '.join(TOKENIZER_FILES)} beside config.json",
                fix=f"AutoTokenizer.from_pretrained(NAME).save_pretrained({self.name!r}), NAME its first encoder",
            )
        tokenizer = self._open(open_tokenizer, "AutoTokenizer")
        # transformers 5 takes tokenizer.json where it has no class of that name, which may do more than that file says
        if type(tokenizer).__name__ == "TokenizersBackend" and "auto_map" in tokenizer.init_kwargs:
            raise self._own_code()
        return tokenizer

    def _open(self, load: Callable[..., Any], kind: str, **options: Any) -> Any:
        try:
            return load(self.name, local_files_only=self._local, trust_remote_code=False, **options)
        except (OSError, ValueError, KeyError) as error:
            if self._local and not Path(self.name).exists():
                raise not_on_disk(self.name) from None
            if "trust_remote_code" in str(error):
                raise self._own_code() from None
            raise ToolkitError(
                f"cannot open {self.name} with {kind}: {reason_of(error)}",
                expected="a directory with config.json, tokenizer.json and model.safetensors, or a name on the hub",
            ) from error
        except Exception as error:  # tokenizers raises a bare Exception for a corrupt tokenizer.json
            raise ToolkitError(f"cannot open {self.name} with {kind}: {reason_of(error)}") from error

    def _own_code(self) -> ToolkitError:
        return ToolkitError(
            f"{self.name} brings Python code of its own, which is never run",
            expected="an architecture of transformers itself, such as BERT, ModernBERT or DeBERTa",
        )


def open_tokenizer(name: str | Path, **options: Any) -> Any:
    """Open a tokenizer with AutoTokenizer; `options` are those of `from_pretrained`.

    Files that transformers 5 wrote may name a class that 4 lacks, or list special tokens where 4 reads a mapping; 4
    then takes tokenizer.json as it is, which has those tokens too.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    try:
        return AutoTokenizer.from_pretrained(name, **options)
    except (ValueError, AttributeError) as error:
        if "TokenizersBackend" not in str(error) and not isinstance(error, AttributeError):
            raise
        return PreTrainedTokenizerFast.from_pretrained(name, extra_special_tokens={}, **options)


def weights_digest(model: Any) -> str:
    """Return SHA-256 over a model's parameters and buffers, by name."""
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def output_names(config: Any) -> tuple[str, ...]:
    """Return the names of a classifier's outputs in their order; files number them from 0 or 1, and name them 0, 1."""
    return tuple(str(name) for _, name in sorted(config.id2label.items(), key=lambda item: int(item[0])))


def _reset_outputs(config: Any) -> None:
    """Let models return named outputs and nothing more, whatever their configuration was saved with."""
    for name in ("torchscript", "output_attentions", "output_hidden_states"):
        if getattr(config, name, False):
            setattr(config, name, False)
    config.return_dict = True

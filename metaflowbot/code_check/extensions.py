"""What public extensions of Metaflow add: real, though not in Metaflow itself.

The names are those of metaflow-checkpoint, metaflow-ray, metaflow-torchrun, metaflow-deepspeed,
metaflow-mpi, metaflow-tensorflow, metaflow-slurm, metaflow-kubeflow, metaflow-nomad,
metaflow-netflixext and Outerbounds' own package, as their documentation gives them.
"""

DECORATORS = frozenset(
    """
    checkpoint model huggingface_hub metaflow_ray ray_parallel torchrun deepspeed mpi tensorflow
    tensorflow_parallel slurm nomad gpu_profile devcontainer named_env named_env_base pip pip_base
    conda_env_internal sys_packages nvidia nvct nim ollama vllm snowpark fast_bakery_internal
    app_deploy s3_proxy nebius_s3_proxy coreweave_s3_proxy torchtune dynamic_cardlive
    """.split()
)
"""Decorators, without the sign."""

NAMES = DECORATORS | frozenset(
    "Checkpoint load_model load_checkpoint HuggingfaceHub AppDeployer PyTorchHelper".split()
)
"""What `from metaflow import …` takes where the extension is installed."""

PARALLEL = frozenset(
    "parallel pytorch_parallel metaflow_ray ray_parallel torchrun deepspeed mpi tensorflow "
    "tensorflow_parallel".split()
)
"""Decorators of steps that are called with `num_parallel`."""

CURRENT = frozenset(
    "checkpoint model mpi torch deepspeed ray tensorflow huggingface_hub slurm nim ollama vllm "
    "local_hostname ob_user".split()
)
"""What they add to `metaflow.current`."""

COMMANDS = frozenset({"environment", "kubeflow-pipelines", "kfp", "slurm", "nomad", "conda"})
"""What they add to a flow's command line."""

PROGRAMS = frozenset({"environment", "ui", "app", "apps"})
"""What they add to `metaflow`."""

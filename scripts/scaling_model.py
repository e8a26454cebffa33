"""Works out what averaging the gradient costs on many devices: the table of docs/scaling.md.

    python scripts/scaling_model.py
    python scripts/scaling_model.py --megabytes 0.2 --update_ms 1.0 --bandwidth 50 --latency_us 10

A model, not a measurement. One all-reduce an update, of the gradient in float32:
time = 2 (N - 1) / N x bytes / bandwidth + 2 log2(N) x latency. Beside it a device computes for
`update_ms`: one update, and the acting that goes with it. Nothing else is communicated.
"""

import argparse
import math
import sys

from muzero_jax.core.terminal import run_program

_SIZES = (8, 64, 256, 1024)
# Parameters, in MB of float32: CartPole's and Breakout's presets, and the paper's Atari network.
_NETWORKS = (("cartpole", 0.265), ("minatar_breakout", 0.469), ("resnet, 256 x 16 blocks", 154.1))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--megabytes", type=float, help="of the gradient (default: three networks)")
    parser.add_argument("--update_ms", type=float, nargs="+", default=[1.0, 10.0, 100.0])
    parser.add_argument("--bandwidth", type=float, default=50.0, help="GB/s of a device (50)")
    parser.add_argument("--latency_us", type=float, default=10.0, help="of a hop (10)")
    options = parser.parse_args()
    networks = [("given", options.megabytes)] if options.megabytes else list(_NETWORKS)
    updates = [f"{update:g} ms" for update in options.update_ms]
    print(f"| network | MB | devices | all-reduce | efficiency at {', '.join(updates)} an update |")
    print("|---|---:|---:|---:|---:|")
    for name, megabytes in networks:
        for num_devices in _SIZES:
            reduce_ms = all_reduce_ms(megabytes, num_devices, options.bandwidth, options.latency_us)
            shares = [update / (update + reduce_ms) for update in options.update_ms]
            told = ", ".join(f"{share:.0%}" for share in shares)
            print(f"| {name} | {megabytes:g} | {num_devices:,} | {reduce_ms:.2f} ms | {told} |")
    return 0


def all_reduce_ms(megabytes: float, num_devices: int, bandwidth: float, latency_us: float) -> float:
    """Milliseconds of one all-reduce.

    Args:
      megabytes: of the gradient.
      num_devices: that average it.
      bandwidth: of each device, in GB/s.
      latency_us: of a hop; there and back along a tree.
    """
    transfer = 2 * (num_devices - 1) / num_devices * megabytes / bandwidth
    return transfer + 2 * math.log2(num_devices) * latency_us / 1000


if __name__ == "__main__":
    sys.exit(run_program(main))

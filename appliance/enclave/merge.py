"""Close a round: walk all chunks once, and at each combine the cohort's updates into the next model (DESIGN §9).

Called by the enclave once the cohort is committed to the log. The inputs lie on an untrusted disk and were sealed by
parties who hold their keys, so that tags alone bind nothing here. Before anything is returned:

1. every update opens under the tags that its sender signed, and is finite
2. every update's norm is, bit for bit, the one it was admitted with
3. the old model and control are those whose content digests the log names
4. the next model and control are finite

Memory is (cohort + a few) × chunk for each thread, whatever the model's size. The result has the same bits for any
number of threads, any arrival order and any machine: one thread computes a chunk, elementwise, silos in the
agreement's order. Torch's own threads add nothing here: the process sets them to one.
"""

from concurrent.futures import ThreadPoolExecutor

from appliance.enclave.columns import Claims, Findings, Worker
from appliance.enclave.content import require_content
from appliance.enclave.merge_inputs import Contribution, Merged, MergeInputs, MergeOutputs, SealedBody, UpdateChanged
from appliance.enclave.norm import norm_of
from appliance.enclave.strategies.base import Strategy

__all__ = ["Contribution", "MergeInputs", "MergeOutputs", "Merged", "SealedBody", "UpdateChanged", "merge"]


def merge(inputs: MergeInputs, outputs: MergeOutputs, strategy: Strategy, *, threads: int) -> Merged:
    """Write the next model (and control) and return their content digests.

    The caller signs the outputs (`BlobWriter.finish`) once this has returned, and discards them if it raises:
    `UpdateChanged` names the silo whose update is not the one admitted; `RefusedError` says wrong-model (the store's
    model or control is not the log's) or update-not-finite (an overflow); `SignatureError`, that the store's model or
    control does not open.
    """
    if (outputs.control is not None) != strategy.has_control or (inputs.control and not strategy.has_control):
        raise ValueError("merge: expected a control to write exactly where the strategy keeps one")
    claims = Claims(inputs.layout.chunks)
    findings = Findings(inputs.layout, len(inputs.contributions))
    # 1. and 4. are the workers' business.
    count = min(threads, len(inputs.layout.chunks))
    workers = [Worker(inputs, outputs, strategy, claims, findings) for _ in range(count)]
    with ThreadPoolExecutor(count, thread_name_prefix="merge") as pool:
        runs = [pool.submit(worker.run) for worker in workers]
    for run in runs:
        run.result()
    # 2. norms
    for contribution, square_sums in zip(inputs.contributions, findings.square_sums, strict=True):
        if norm_of(square_sums) != contribution.inspection.norm:
            raise UpdateChanged(contribution.silo, "another norm")
    # 3. content of what was built upon
    layout = inputs.layout
    require_content("the old model", expected=inputs.model.content, found=findings.old_model.digest(layout))
    if inputs.control is not None:
        require_content("the old control", expected=inputs.control.content, found=findings.old_control.digest(layout))
    control = findings.new_control.digest(layout) if outputs.control is not None else None
    return Merged(model=findings.new_model.digest(layout), control=control)

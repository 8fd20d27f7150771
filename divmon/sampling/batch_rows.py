"""The state of a batch while it is decoded: what each row has generated, and which rows still run."""

from __future__ import annotations

import math
from dataclasses import replace

import torch

from divmon.sampling.engines import Batch, Drawn, NonFiniteLogits
from divmon.sampling.likelihood import token_likelihood


class Undecided(RuntimeError):
    """A row's distribution is so flat that its token cannot be chosen without waiting for the device."""


class Rows:
    """All on the device, and read in `still_running` alone; a step only queues what it adds.

    A row may begin with tokens that are given: the end of its prompt, where that is longer than the batch's shortest.

    Args:
        given_SR: [steps, rows] the tokens given, -1 where a row samples.
        steps: of the whole batch.
    """

    def __init__(self, device: torch.device, batch: Batch, given_SR: torch.Tensor, steps: int) -> None:
        rows, lead_R = len(batch.limits_R), (given_SR >= 0).sum(0)
        self.batch, self.device, self.steps = batch, device, steps
        self.leads = sorted(set(lead_R.tolist()))
        own_SR = (torch.arange(steps).unsqueeze(-1) - lead_R).clamp_(0, batch.uniforms_RT.shape[1] - 1)
        uniforms_SR = batch.uniforms_RT.T.gather(0, own_SR)
        # Apple's devices have no float64; float32 uniforms are fine enough for a vocabulary.
        self.uniforms = (uniforms_SR.float() if device.type == "mps" else uniforms_SR).to(device)
        self.given, self.lead = given_SR.to(device), lead_R.to(device)
        self.last = (lead_R + batch.limits_R - 1).to(device)
        self.eos = torch.tensor(list(batch.eos_token_ids), dtype=torch.long, device=device)
        self.tokens = torch.full((steps, rows), batch.pad, dtype=torch.long, device=device)
        self.peaks = torch.zeros(steps, rows, device=device)
        """The largest logit, in a row that is not finite NaN or infinite, and so is the sum of all of them."""
        self.end = torch.full((rows,), steps, device=device)
        """The step of a row's last token; `steps` while it runs."""
        self.undecided = torch.zeros((), dtype=torch.bool, device=device)
        self.alive = torch.arange(rows, device=device)
        self.checked = 0
        self.likelihood: torch.Tensor | None = None
        if batch.likelihood_R is not None:
            self.likelihood = torch.full((steps, rows, 3), torch.nan, device=device)
            self.asked = batch.likelihood_R.to(device)
            self.places = self.asked.nonzero().squeeze(-1)
            """Of the rows asked for among those alive."""

    def record(self, token_r: torch.Tensor, step: int, logits_rV: torch.Tensor) -> torch.Tensor:
        """Keeps a step's tokens; returns those that are to be forwarded: for some rows the prompt goes on."""
        if step < len(self.given):
            given_r = self.given[step][self.alive]
            token_r = torch.where(given_r < 0, token_r, given_r)
        self.tokens[step].index_copy_(0, self.alive, token_r)
        self.peaks[step].index_copy_(0, self.alive, logits_rV.amax(-1).to(self.peaks))
        if self.likelihood is not None:
            at = self.places
            self.likelihood[step].index_copy_(0, self.alive[at], token_likelihood(logits_rV[at], token_r[at]))
        return token_r

    def still_running(self, step: int) -> torch.Tensor | None:
        """What each place of the batch is to hold after `step` steps, by place so far; None where all still run.

        Raises:
            NonFiniteLogits, Undecided: where no other process needs this one in step.
        """
        peaks = self.peaks[self.checked : step].sum()
        count = self._look(step)
        largest, undecided, left = torch.stack([peaks, self.undecided.float(), count.float()]).tolist()
        if undecided:
            raise Undecided
        if not math.isfinite(largest):
            if self.batch.together is None:
                raise NonFiniteLogits
            self.end.clamp_(max=step - 1)  # said by `drawn`: until then the others need this process in step
        elif self.batch.stopper is not None:
            self._stop(step)
        elif left == len(self.alive):
            return None
        running = self.end[self.alive] == self.steps
        left = int(running.sum())
        if left == len(running):
            return None
        # Those in front stay where they are, and the last ones move to where others left: little is copied.
        keep = torch.arange(left, device=running.device)
        keep[~running[:left]] = running[left:].nonzero().squeeze(-1) + left
        self.alive = self.alive[keep]
        if self.likelihood is not None:
            self.places = self.asked[self.alive].nonzero().squeeze(-1)
        return keep

    def _look(self, step: int) -> torch.Tensor:
        """Finds what has ended in the steps since the last check; returns how many rows still run."""
        rows, first = self.alive, self.checked
        self.checked = step
        steps_s1 = torch.arange(first, step, device=self.device).unsqueeze(-1)
        stop = torch.isin(self.tokens[first:step, rows], self.eos)
        if first < len(self.given):
            stop &= steps_s1 >= self.lead[rows]
        stop |= steps_s1 == self.last[rows]
        end_r = torch.minimum(self.end[rows], torch.where(stop, steps_s1, self.steps).amin(0))
        self.end[rows] = end_r
        return (end_r == self.steps).sum()

    def _stop(self, step: int) -> None:
        """Asks the stopper, which wants rows of equally many own tokens."""
        assert self.batch.stopper is not None
        running = self.alive[self.end[self.alive] == self.steps]
        for lead in self.leads:
            asked = running if len(self.leads) == 1 else running[self.lead[running] == lead]
            if len(asked) and step > lead:
                stopped = self.batch.stopper(asked, self.tokens[lead:step, asked].T).to(self.device)
                self.end[asked[stopped]] = step - 1

    def drawn(self) -> Drawn:
        """Every row's own tokens.

        Raises:
            NonFiniteLogits, Undecided: by what has been recorded since the last check.
        """
        if self.checked < self.steps and len(self.alive):
            self._look(self.steps)
        if bool(self.undecided):
            raise Undecided
        if not math.isfinite(float(self.peaks.sum())):
            raise NonFiniteLogits
        lengths_R, lead_R = (self.end - self.lead + 1).cpu(), self.lead.cpu()
        # A row whose last token is an end token was closed by it: whatever else stopped it came no earlier.
        ended_R = torch.isin(self.tokens.gather(0, self.end[None])[0], self.eos).cpu()
        own_TR = torch.arange(self.batch.max_new_tokens).unsqueeze(-1)
        at_TR = (own_TR + lead_R).clamp_(max=self.steps - 1)
        tokens_RT = self.tokens.cpu().gather(0, at_TR).masked_fill_(own_TR >= lengths_R, self.batch.pad).T.contiguous()
        drawn = Drawn(tokens_RT, lengths_R, ended_R)
        if self.likelihood is None:
            return drawn
        likelihood_TR3 = self.likelihood.cpu().gather(0, at_TR.unsqueeze(-1).expand(-1, -1, 3))
        return replace(drawn, likelihood_RT3=likelihood_TR3.transpose(0, 1))

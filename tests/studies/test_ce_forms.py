import torch

from studies.speed import ce_forms as script


def test_all_forms_are_the_same_loss():
    torch.manual_seed(0)
    states, table, targets = torch.randn(20, 8), torch.randn(50, 8), torch.randint(50, (20,))
    answers = []
    for form in script.forms().values():
        leaves = [x.clone().requires_grad_() for x in (states, table)]
        value = form(*leaves, targets).sum()
        answers.append((value, *torch.autograd.grad(value, leaves)))
    assert len(answers) == 2 + hasattr(torch.nn.functional, "linear_cross_entropy")
    for other in answers[1:]:
        for one, two in zip(answers[0], other, strict=True):
            torch.testing.assert_close(one, two)


def test_it_prints_a_line_a_form(capsys):
    assert script.main(["--rows", "20", "--items", "50", "--width", "8", "--repeats", "1"]) == 0
    said = capsys.readouterr().out
    for form in (*script.forms(), "floor"):
        assert form in said


def test_what_the_user_can_mend(capsys):
    for arguments in (["--rows", "0"], ["--items", "1"], ["--device", "cuda"]):
        assert script.main(arguments) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1

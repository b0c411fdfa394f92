"""Reference curves: what known recipes give, trained by lossgap over several seeds and shipped as small files."""

"""The back end that this service replaces, as its kind is usually written: FastAPI with synchronous handlers,
SQLAlchemy, passlib's bcrypt, JWTs from python-jose, and a session row behind each token. `python app.py` creates the
tables."""

import os
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

from fastapi import Depends, FastAPI, HTTPException
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from jose import JWTError, jwt
from passlib.context import CryptContext
from pydantic import BaseModel
from sqlalchemy import DateTime, ForeignKey, Text, create_engine, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

SECRET_KEY = os.environ["SECRET_KEY"]
ALGORITHM = "HS256"
LIFETIME = timedelta(hours=1)

engine = create_engine(os.environ["DATABASE_URL"])
SessionLocal = sessionmaker(engine)
passwords = CryptContext(schemes=["bcrypt"], deprecated="auto")
bearer = HTTPBearer()
app = FastAPI()


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "user"
    __table_args__ = {"schema": "people"}

    user_id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    user_name: Mapped[str] = mapped_column(Text, unique=True)
    country: Mapped[str | None] = mapped_column(Text)
    job: Mapped[str | None] = mapped_column(Text)
    phone: Mapped[str | None] = mapped_column(Text)
    email: Mapped[str | None] = mapped_column(Text)
    init_cn_level: Mapped[str | None] = mapped_column(Text)
    reg_time: Mapped[datetime] = mapped_column(DateTime(timezone=True), default=lambda: datetime.now(UTC))
    password_hash: Mapped[str] = mapped_column(Text)


class UserSession(Base):
    __tablename__ = "user_session"
    __table_args__ = {"schema": "people"}

    session_id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("people.user.user_id"))
    token: Mapped[str] = mapped_column(Text)
    login_time: Mapped[datetime] = mapped_column(DateTime(timezone=True), default=lambda: datetime.now(UTC))
    logout_time: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))


class Credentials(BaseModel):
    userid: str
    password: str


def get_db():
    with SessionLocal() as db:
        yield db


def user_info(user):
    names = ["user_id", "user_name", "country", "job", "phone", "email", "init_cn_level", "reg_time"]
    return {name: getattr(user, name) for name in names}


def current_user(authorization: HTTPAuthorizationCredentials = Depends(bearer), db: Session = Depends(get_db)):
    try:
        claims = jwt.decode(authorization.credentials, SECRET_KEY, algorithms=[ALGORITHM])
    except JWTError as error:
        raise HTTPException(401, "invalid token") from error
    session = db.get(UserSession, UUID(claims["session_id"]))
    if session is None or session.logout_time is not None:
        raise HTTPException(401, "the session has ended")
    return db.get(User, session.user_id)


@app.post("/user/register")
def register(credentials: Credentials, db: Session = Depends(get_db)):
    user = User(user_name=credentials.userid, password_hash=passwords.hash(credentials.password))
    db.add(user)
    db.commit()
    return {"code": 1, "message": "ok", "data": {"user_info": user_info(user)}}


@app.post("/auth/login")
def login(credentials: Credentials, db: Session = Depends(get_db)):
    user = db.scalar(select(User).where(User.user_name == credentials.userid))
    if user is None or not passwords.verify(credentials.password, user.password_hash):
        raise HTTPException(401, "userid or password is wrong")
    session_id = uuid4()
    claims = {"user_id": str(user.user_id), "session_id": str(session_id), "exp": datetime.now(UTC) + LIFETIME}
    token = jwt.encode(claims, SECRET_KEY, algorithm=ALGORITHM)
    db.add(UserSession(session_id=session_id, user_id=user.user_id, token=token))
    db.commit()
    data = {"access_token": token, "token_type": "bearer", "user_info": user_info(user)}
    return {"code": 1, "message": "ok", "data": data}


@app.get("/auth/me")
def me(user: User = Depends(current_user)):
    return {"code": 1, "message": "ok", "data": {"user_info": user_info(user)}}


if __name__ == "__main__":
    with engine.begin() as connection:
        connection.execute(text("CREATE SCHEMA people"))
        Base.metadata.create_all(connection)
